"""A sequential gate that rides along with a run and drops what is queued once the verdict is certain.

The plan is cut into rounds: a few episodes of every task each, chosen by episode key, which is as good as random and
the same for everybody. Evidence is weighed only when every episode of a round has ended, so that it matters neither
that failures take longer than successes, nor which worker got what; and every look is fair over tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.paired.pairing import ERROR, SUCCESS, Scored, Side, describe_timing, describe_variants, read_sides
from harness.analysis.success.credit import scores
from harness.errors import LedgerError, UsageError
from harness.gate.stopping import PairOutcome, StopDecision, decide_look, pair_table, refuse_fixed
from harness.gate.verdict import Verdict
from harness.ledger.storage import Location
from harness.schedule.early_stopping import STOP_RECORD, StopNote
from harness.schedule.result import EpisodeResult
from harness.schedule.units import EpisodeUnit
from harness.spec.manifest import require_equal_manifests
from harness.spec.policy import PolicyAtNfe
from harness.spec.rules import GateRules
from harness.strict_json import read_object, texts


def plan_rounds(plan: Sequence[EpisodeUnit], looks: int) -> tuple[tuple[EpisodeUnit, ...], ...]:
    """Cut a plan into rounds, each with an equal part of every task.

    Args:
        plan: Units of one policy and NFE, any order.
        looks: Number of rounds, at most; tasks with fewer episodes end sooner.

    Returns:
        The rounds; the same for every order of `plan`.
    """
    units = {unit.episode_key: unit for unit in plan}
    rounds = key_rounds({unit.episode_key: unit.task for unit in plan}, looks)
    return tuple(tuple(units[key] for key in members) for members in rounds)


def key_rounds(tasks: Mapping[str, tuple[str, int]], looks: int) -> list[list[str]]:
    """The rounds of a plan by episode keys alone; see `plan_rounds`.

    Args:
        tasks: Episode key → (suite, task).
        looks: Number of rounds, at most.
    """
    by_task: dict[tuple[str, int], list[str]] = {}
    for key in sorted(tasks):
        by_task.setdefault(tasks[key], []).append(key)
    largest = max(map(len, by_task.values()), default=0)
    size = -(-largest // looks)
    return [
        [key for task in sorted(by_task) for key in by_task[task][start : start + size]]
        for start in range(0, largest, max(size, 1))
    ]


@dataclass
class GateStopping:
    """Weighs the pairs of a run against a base after every round. It pickles: the controller holds it."""

    rules: GateRules
    base_path: str
    base: Mapping[str, Scored]
    """Episode key → outcome of the base."""
    plan: tuple[tuple[EpisodeUnit, ...], ...]
    """The rounds."""
    outcomes: dict[str, Scored] = field(default_factory=dict)
    """Episode key → outcome of the candidate, for episodes that have ended."""
    base_scores: Mapping[str, float] = field(default_factory=dict)
    """Episode key → partial credit of the base, where it is known."""
    scores: dict[str, float] = field(default_factory=dict)
    """Episode key → partial credit of the candidate, where it is known."""
    judged_rounds: int = 0
    """Complete rounds that have been weighed."""

    def rounds(self) -> Sequence[Sequence[EpisodeUnit]]:
        """Every unit of the plan, in rounds."""
        return self.plan

    def take(self, results: Sequence[EpisodeResult]) -> StopNote | None:
        """Take results; a note once the verdict on success is certain."""
        for result in results:
            self.outcomes[result.unit.episode_key] = None if result.outcome == "error" else result.outcome == "success"
            self.scores[result.unit.episode_key] = _score(result)
        complete = self._complete_rounds()
        if complete == self.judged_rounds:
            return None
        self.judged_rounds = complete
        decision = self.decide()
        if not decision.stop:
            return None
        record = {
            "format_version": 2,
            "verdict": decision.verdict.value,
            "reason": decision.reason,
            "base": self.base_path,
            "rules": self.rules.model_dump(mode="json", exclude_none=True),
            "rounds": complete,
            "episode_keys": [unit.episode_key for unit in self._judged_units()],
            "plan": [[unit.episode_key for unit in members] for members in self._weighed()],
        }
        what = "given up" if decision.verdict is Verdict.INCONCLUSIVE else "certain"
        return StopNote(f"{decision.verdict.value} is {what} after {complete} rounds. {decision.reason}", record)

    def decide(self) -> StopDecision:
        """The decision on the complete rounds."""
        weighed = self._weighed()
        units = [(unit, look) for look, members in enumerate(weighed[: self.judged_rounds]) for unit in members]
        names = sorted({_task_name(unit) for members in weighed for unit in members})
        planned = np.zeros((max(len(weighed), 1), len(names)), dtype=np.int64)
        for look, members in enumerate(weighed):
            for unit in members:
                planned[look, names.index(_task_name(unit))] += 1
        pairs = [
            PairOutcome(
                _task_name(unit),
                self.base[unit.episode_key],
                self.outcomes[unit.episode_key],
                self.base_scores.get(unit.episode_key, np.nan),
                self.scores.get(unit.episode_key, np.nan),
            )
            for unit, _ in units
        ]
        table = pair_table(pairs, [look for _, look in units], planned, names)
        return decide_look(table, self.rules, self.judged_rounds)

    def _weighed(self) -> list[list[EpisodeUnit]]:
        """The plan's units that the base has too, in rounds."""
        return [[unit for unit in members if unit.episode_key in self.base] for members in self.plan]

    def _complete_rounds(self) -> int:
        complete = self.judged_rounds
        while complete < len(self.plan) and all(unit.episode_key in self.outcomes for unit in self.plan[complete]):
            complete += 1
        return complete

    def _judged_units(self) -> list[EpisodeUnit]:
        return [unit for members in self.plan[: self.judged_rounds] for unit in members]


def stopping_against(
    base: str | Path,
    rules: GateRules,
    plan: Sequence[EpisodeUnit],
    manifests: Mapping[str, Mapping[str, Any]],
    *,
    out: str | Path | None = None,
) -> GateStopping:
    """Build the early stopping of a run.

    Args:
        base: Ledger to gate against.
        rules: Rules of sequential design.
        plan: Every unit of the run.
        manifests: LIBERO suite → protocol manifest of the run.
        out: Ledger that is being resumed: what it holds counts as ended.

    Raises:
        UsageError: The rules are of fixed design; the run has several policies or NFE; the protocols differ; or the
            base has none of the planned episodes, or several policies of which none is the run's.
    """
    refuse_fixed(rules)
    variants = sorted({unit.policy_at_nfe for unit in plan}, key=str)
    if len(variants) != 1:
        raise UsageError(
            f"A gated run has one policy at one NFE, so that stopping is about that one; this one has "
            f"{describe_variants(variants)}. Choose with --policy and --nfe."
        )
    timings = sorted({(unit.clock, unit.latency_source) for unit in plan}, key=str)
    if len(timings) != 1:
        raise UsageError(
            "A gated run plays one clock with one source of delays; this one has "
            f"{', '.join(describe_timing(*timing) for timing in timings)}. Choose with --clock and --latency."
        )
    side = _base_side(base, *variants[0], timings[0])
    for suite, manifest in manifests.items():
        if suite in side.manifests:
            require_equal_manifests(side.manifests[suite], manifest)
    known = _outcomes(side)
    if not any(unit.episode_key in known for unit in plan):
        raise UsageError(f"{str(base)!r} has none of the {len(plan)} planned episodes, so there is nothing to pair.")
    held = [] if out is None else _held(out, variants[0], timings[0])
    finished = {key: value for one in held for key, value in _outcomes(one).items()}
    planned = {unit.episode_key for unit in plan}
    # A resumed run tries errors again, so only scored episodes have ended.
    return GateStopping(
        rules,
        str(base),
        known,
        plan_rounds(plan, rules.looks),
        {key: outcome for key, outcome in finished.items() if key in planned and outcome is not None},
        _known_scores(side),
        {key: score for one in held for key, score in _known_scores(one).items()},
    )


def read_stop_record(ledger: str | Path) -> dict[str, Any] | None:
    """What had been decided about a ledger's run that was stopped early; None when it was not.

    Raises:
        LedgerError: The record is there and cannot be read.
    """
    location = Location.of(ledger)
    path = f"{location.root}/{STOP_RECORD}"
    try:
        with location.filesystem.open_input_file(path) as source:
            data = read_object(source.read())
        texts(data, "episode_keys")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LedgerError(
            f"Cannot read {path!r}: {error}. Restore it from a copy, or finish the run with --resume."
        ) from error
    return data


def _task_name(unit: EpisodeUnit) -> str:
    return f"{unit.suite} task {unit.task_id}"


def _base_side(base: str | Path, policy: str | None, nfe: int | None, timing: tuple[str, str | None]) -> Side:
    sides = read_sides(base, clock=describe_timing(*timing))
    exact = [side for side in sides if (side.policy_id, side.nfe) == (policy, nfe)]
    same_nfe = [side for side in sides if side.nfe == nfe]
    for found in (exact, same_nfe, sides):
        if len(found) == 1:
            return found[0]
    listing = describe_variants((side.policy_id, side.nfe) for side in sides)
    raise UsageError(f"It is unclear what to gate {policy} against: {str(base)!r} has {listing}.")


def _held(out: str | Path, variant: PolicyAtNfe, timing: tuple[str, str | None]) -> list[Side]:
    try:
        sides = read_sides(out)
    except LedgerError:
        return []
    return [side for side in sides if (side.variant, side.timing) == (variant, timing)]


def _known_scores(side: Side) -> dict[str, float]:
    if side.scores is None:
        return {}
    return dict(zip(side.keys.to_pylist(), side.scores.tolist(), strict=True))


def _score(result: EpisodeResult) -> float:
    """Partial credit of an episode; NaN where its world declares no goals, and for errors."""
    if result.outcome == "error" or result.goals is None:
        return float("nan")
    solved = result.outcome == "success"
    told: list[Any] = [[result.goals], [result.goals_held_best], [result.stage]]
    return float(scores([solved], *told)[0])


def _outcomes(side: Side) -> dict[str, Scored]:
    decoded = {ERROR: None, SUCCESS: True}
    return {key: decoded.get(int(code), False) for key, code in zip(side.keys.to_pylist(), side.outcomes, strict=True)}
