"""What carries a change: the checkpoint, the way it is run, both, or chance.

Only flipped episodes are run again. First each side against itself: an episode that does not repeat its own outcome is
a flake and proves nothing. Then the two mixed cells of the 2 x 2 (old checkpoint with the new runtime, new checkpoint
with the old runtime) say for each stable flip which factor is enough to cause it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from harness.analysis.intervals import Interval, rate_interval
from harness.analysis.paired.pairing import Scored

Cell = tuple[Literal["base", "candidate"], Literal["base", "candidate"]]
"""(whose checkpoint, whose runtime)."""

OLD: Cell = ("base", "base")
NEW: Cell = ("candidate", "candidate")
NEW_CHECKPOINT: Cell = ("candidate", "base")
NEW_RUNTIME: Cell = ("base", "candidate")

Cause = Literal["checkpoint", "runtime", "either", "together"]


@dataclass(frozen=True)
class Flake:
    """How often a side does not repeat its own outcome, over the flipped episodes."""

    changed: int
    n: int
    """Reruns with a result."""
    interval: Interval
    """Clopper-Pearson, 95 %. Flips are the episodes most likely to flake: this is no rate over all episodes."""

    @property
    def rate(self) -> float:
        """Share of reruns that changed; NaN without any."""
        return self.changed / self.n if self.n else float("nan")


@dataclass(frozen=True)
class Attribution:
    """What the reruns say."""

    flips: int
    base_flake: Flake
    candidate_flake: Flake
    stable: int
    """Flips that both sides repeat."""
    causes: Mapping[Cause, int]
    """Stable flips by what is enough to cause them; "either": each alone; "together": only both at once."""
    verdict: str
    """"checkpoint", "runtime", "both", "chance" or "undecided"."""
    reason: str


def flakes(original: Mapping[str, bool], again: Mapping[str, Scored]) -> Flake:
    """Compare a side with its own rerun.

    Args:
        original: Episode key → the side's outcome in its ledger, for the flipped episodes.
        again: Episode key → its outcome in the rerun; None for an infrastructure error.
    """
    ran = {key: outcome for key, outcome in again.items() if outcome is not None and key in original}
    changed = sum(original[key] != outcome for key, outcome in ran.items())
    return Flake(changed, len(ran), rate_interval(changed, len(ran)))


def stable_flips(base: Mapping[str, bool], cells: Mapping[Cell, Mapping[str, Scored]]) -> list[str]:
    """Keys of the flips that both sides repeat.

    Args:
        base: Episode key → the base's outcome in its ledger; the candidate's was the opposite.
        cells: Outcomes of the reruns; `OLD` and `NEW` are needed.
    """
    return [
        key for key, outcome in base.items() if cells[OLD].get(key) is outcome and cells[NEW].get(key) is (not outcome)
    ]


def attribute(
    base: Mapping[str, bool], cells: Mapping[Cell, Mapping[str, Scored]], *, alpha: float = 0.05
) -> Attribution:
    """Say what carries the change.

    Args:
        base: Episode key → the base's outcome in its ledger, for flipped episodes; the candidate's was the opposite.
        cells: Outcomes of the reruns. Without the mixed cells only flakiness is judged.
        alpha: Error rate of "one factor causes more flips than the other" (exact sign test).
    """
    own = flakes(base, cells[OLD])
    other = flakes({key: not outcome for key, outcome in base.items()}, cells[NEW])
    stable = stable_flips(base, cells)
    causes = _causes(base, cells, stable)
    verdict, reason = _verdict(len(base), stable, causes, alpha)
    return Attribution(len(base), own, other, len(stable), causes, verdict, reason)


def mostly_chance(n_flips: int, n_stable: int) -> bool:
    """Whether at most half of the flips repeat: the mixed cells would then explain noise."""
    return 2 * n_stable <= n_flips


def _causes(
    base: Mapping[str, bool], cells: Mapping[Cell, Mapping[str, Scored]], stable: list[str]
) -> dict[Cause, int]:
    found: Counter[Cause] = Counter()
    for key in stable:
        checkpoint = cells.get(NEW_CHECKPOINT, {}).get(key)
        runtime = cells.get(NEW_RUNTIME, {}).get(key)
        if checkpoint is None or runtime is None:
            continue
        flipped = (checkpoint is not base[key], runtime is not base[key])
        names: dict[tuple[bool, bool], Cause] = {
            (True, True): "either",
            (True, False): "checkpoint",
            (False, True): "runtime",
            (False, False): "together",
        }
        found[names[flipped]] += 1
    return dict(found)


def _verdict(n_flips: int, stable: list[str], causes: Mapping[Cause, int], alpha: float) -> tuple[str, str]:
    if mostly_chance(n_flips, len(stable)):
        return "chance", f"Only {len(stable)} of {n_flips} flips repeat: the same thing run twice flips as well."
    judged = sum(causes.values())
    if not judged:
        return "undecided", "The mixed cells were not run."
    checkpoint, runtime = causes.get("checkpoint", 0), causes.get("runtime", 0)
    both = causes.get("either", 0) + causes.get("together", 0)
    counts = (
        f"Of {judged} stable flips the checkpoint alone causes {checkpoint}, the runtime alone {runtime}, either "
        f"{causes.get('either', 0)}, only both together {causes.get('together', 0)}."
    )
    if both > checkpoint + runtime:
        return "both", counts
    p = float(stats.binomtest(checkpoint, checkpoint + runtime).pvalue) if checkpoint + runtime else 1.0
    if p > alpha:
        return "undecided", f"{counts} Neither clearly causes more (sign test, p = {p:.2g})."
    return ("checkpoint" if checkpoint > runtime else "runtime"), f"{counts} Sign test: p = {p:.2g}."
