"""Is a claimed gain provable, and does it survive other placements and other words?

A gain on a benchmark's own init states, under its own instructions, may be chance, or belong to these very states, or
need no words at all. Each question is a paired comparison: within one condition the same episodes, between two
conditions the same tasks, init states and trials.

Source: arXiv 2606.04233, an audit of LIBERO's published gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from harness.analysis.intervals import Interval
from harness.analysis.paired.compare import SuccessComparison, compare_success
from harness.analysis.paired.pairing import ERROR, SUCCESS, Side, require_same_protocol
from harness.analysis.paired.power import pairs_needed
from harness.analysis.paired.statistics import PairCounts, difference_interval, holm, mcnemar_exact
from harness.errors import UsageError
from harness.spec.manifest import require_equal_manifests
from harness.spec.policy import PolicyAtNfe
from harness.spec.protocol import SAMPLED

Condition = Literal["as benchmarked", "sampled placements", "blank instruction", "shuffled instruction"]
BENCHMARK: Condition = "as benchmarked"
TRIALS: tuple[Condition, ...] = ("sampled placements", "blank instruction", "shuffled instruction")
"""What a claim is put to beside its benchmark."""

LANGUAGE_MARGIN = 0.1
"""Without its words a policy that loses less than this, as a fraction, is said not to need them."""

NeedOfWords = Literal["yes", "no", "undecided"]

Outcome = Literal["survives", "not shown", "reversed", "missing"]


@dataclass(frozen=True)
class Trial:
    """A claim under one condition."""

    condition: Condition
    outcome: Outcome
    """"survives": the gain is shown there too; "reversed": the opposite is; "missing": nobody ran both there."""
    comparison: SuccessComparison | None


@dataclass(frozen=True)
class GainClaim:
    """That one policy is better than another."""

    comparison: SuccessComparison
    """Base: the other; candidate: the one that is claimed to be better."""
    p_adjusted: float
    """Exact McNemar, two-sided, after Holm's correction over all claims."""
    alpha: float
    trials: tuple[Trial, ...]
    claims: int = 1
    """Claims that share alpha."""

    @property
    def provable(self) -> bool:
        """Whether these episodes show that it is better."""
        return self.p_adjusted <= self.alpha and self.comparison.overall.counts.difference > 0

    @property
    def needed(self) -> int | None:
        """Pairs that would prove such a gain with 80 %; None where there is none to prove, or no number is enough."""
        counts = self.comparison.overall.counts
        if not counts.n or counts.difference <= 0:
            return None
        return pairs_needed(counts.difference, counts.discordance, self.alpha / self.claims, sides=2)


@dataclass(frozen=True)
class LanguageCheck:
    """One policy with other words, against itself with its own."""

    side: Side
    condition: Condition
    counts: PairCounts
    """Lost: solved only with its own words."""
    difference: Interval
    p: float
    """Exact McNemar of "no drop"."""

    def needs_words(self, alpha: float) -> bool:
        """Whether it is shown to solve less without its words."""
        return self.p <= alpha

    def answer(self, alpha: float) -> NeedOfWords:
        """Whether it needs its words, as far as these pairs can tell."""
        if self.needs_words(alpha):
            return "yes"
        spared = self.counts.n > 0 and self.difference.low > -LANGUAGE_MARGIN
        return "no" if spared and self.enough_to_lose else "undecided"

    @property
    def enough_to_lose(self) -> bool:
        """Whether it solves so much with its own words that a drop of the margin could show."""
        return self.counts.both + self.counts.lost > LANGUAGE_MARGIN * self.counts.n

    def needed(self, alpha: float) -> int | None:
        """Pairs that show a drop of the margin with 80 %; None beyond counting."""
        return pairs_needed(LANGUAGE_MARGIN, max(self.counts.discordance, LANGUAGE_MARGIN), alpha)


@dataclass(frozen=True)
class Audit:
    """What ledgers show of the gains that they were made to show."""

    claims: tuple[GainClaim, ...]
    language: tuple[LanguageCheck, ...]
    alpha: float


@dataclass(frozen=True)
class ClaimChoice:
    """Which claim to audit; without any value every pair of policies is one."""

    base: PolicyAtNfe | None = None
    candidate: PolicyAtNfe | None = None


def condition_of(side: Side) -> Condition:
    """Under which condition a side was run.

    Raises:
        UsageError: Under several, or under placements and words that both differ from the benchmark's.
    """
    suites = {value for value in side.details["suite"].unique().to_pylist() if value}
    found = {_condition(manifest) for suite, manifest in side.manifests.items() if suite in suites} or {BENCHMARK}
    if len(found) > 1:
        raise UsageError(f"{side.path!r} mixes conditions ({', '.join(sorted(found))}). Run each into its own ledger.")
    return found.pop()


def _condition(manifest: Mapping[str, Any]) -> Condition:
    sampled = manifest.get("init_states") == SAMPLED
    words = manifest.get("instruction", "own")
    if sampled and words != "own":
        raise UsageError(
            f"A ledger has sampled placements and a {words} instruction at once, so that neither can be told from the "
            "other. Change one at a time."
        )
    if sampled:
        return "sampled placements"
    return {"own": BENCHMARK, "blank": "blank instruction", "shuffled": "shuffled instruction"}[words]


def audit(sides: Sequence[Side], choice: ClaimChoice | None = None, alpha: float = 0.05) -> Audit:
    """Audit the gains that checkpoints claim over each other.

    Args:
        sides: Checkpoints under every condition that was run.
        choice: Only this claim.
        alpha: Of all claims together, and of each trial of a claim.

    Raises:
        UsageError: There are no two policies to compare, or protocols differ in more than a condition.
    """
    by_condition: dict[Condition, list[Side]] = {}
    for side in sides:
        by_condition.setdefault(condition_of(side), []).append(side)
    if BENCHMARK not in by_condition:
        listing = "; ".join(f"{one.path}: {condition_of(one)}" for one in {side.path: side for side in sides}.values())
        raise UsageError(
            f"None of these ledgers was run as the benchmark is ({listing or 'they hold no episodes'}). There a gain "
            "is claimed: give the ledger of both policies with the benchmark's own placements and words too."
        )
    compared = [_claimed(*pair, fixed=choice is not None) for pair in _pairs(by_condition.get(BENCHMARK, []), choice)]
    adjusted = holm([one.overall.p for one in compared])
    claims = [
        GainClaim(
            comparison=one,
            p_adjusted=float(p),
            alpha=alpha,
            trials=tuple(_tried(one, condition, by_condition, alpha) for condition in TRIALS),
            claims=len(compared),
        )
        for one, p in zip(compared, adjusted, strict=True)
    ]
    named = {side.variant for one in compared for side in (one.base, one.candidate)}
    own = {side.variant: side for side in by_condition.get(BENCHMARK, [])}
    language = [
        _without_words(own[side.variant], side, condition)
        for condition in TRIALS[1:]
        for side in by_condition.get(condition, [])
        if side.variant in named
    ]
    return Audit(tuple(claims), tuple(language), alpha)


def _pairs(sides: Sequence[Side], choice: ClaimChoice | None) -> list[tuple[Side, Side]]:
    """(other, better) of every claim, before it is known which is better."""
    if choice is None:
        if len(sides) < 2:
            raise UsageError(
                f"{len(sides)} checkpoints were run as the benchmark is; a claim needs two. Give the ledgers of both."
            )
        return list(combinations(sides, 2))
    return [(_chosen(sides, choice.base, "base"), _chosen(sides, choice.candidate, "candidate"))]


def _chosen(sides: Sequence[Side], wanted: PolicyAtNfe | None, what: str) -> Side:
    fitting = [
        side
        for side in sides
        if wanted is None or (wanted.policy_id in (None, side.policy_id) and wanted.nfe in (None, side.nfe))
    ]
    if len(fitting) != 1:
        listing = ", ".join(side.label for side in sides) or "none"
        raise UsageError(f"{len(fitting)} checkpoints can be the {what} of the claim. There are: {listing}.")
    return fitting[0]


def _claimed(first: Side, second: Side, *, fixed: bool) -> SuccessComparison:
    """Their comparison, the better one as candidate unless the claim was stated."""
    require_same_protocol(first, second)
    found = compare_success(first, second)
    return found if fixed or not found.overall.counts.difference < 0 else compare_success(second, first)


def _tried(
    claim: SuccessComparison, condition: Condition, by_condition: Mapping[Condition, Sequence[Side]], alpha: float
) -> Trial:
    there = {side.variant: side for side in by_condition.get(condition, [])}
    pair = [there.get(side.variant) for side in (claim.base, claim.candidate)]
    if pair[0] is None or pair[1] is None:
        return Trial(condition, "missing", None)
    require_same_protocol(pair[0], pair[1])
    found = compare_success(pair[0], pair[1])
    counts = found.overall.counts
    if counts.n == 0:
        return Trial(condition, "missing", found)
    if float(mcnemar_exact(counts.lost, counts.gained, "rise")) <= alpha:
        return Trial(condition, "survives", found)
    reversed_ = float(mcnemar_exact(counts.lost, counts.gained, "drop")) <= alpha
    return Trial(condition, "reversed" if reversed_ else "not shown", found)


def _without_words(own: Side, other: Side, condition: Condition) -> LanguageCheck:
    """Compare a policy with itself under other words: by task, init state and trial, since keys differ."""
    for suite in sorted(set(own.manifests) & set(other.manifests)):
        pair = [
            {key: value for key, value in side.manifests[suite].items() if key != "instruction"}
            for side in (own, other)
        ]
        require_equal_manifests(*pair)
    told, changed = _by_place(own), _by_place(other)
    places = [place for place in told if place in changed and ERROR not in (told[place], changed[place])]
    old = np.array([told[place] == SUCCESS for place in places], dtype=bool)
    new = np.array([changed[place] == SUCCESS for place in places], dtype=bool)
    counts = PairCounts.of(old, new)
    p = float(mcnemar_exact(counts.lost, counts.gained, "drop"))
    return LanguageCheck(other, condition, counts, difference_interval(counts), p)


def _by_place(side: Side) -> dict[tuple[Any, ...], int]:
    columns = [side.details[name].to_pylist() for name in ("suite", "task_id", "init_state_id", "trial")]
    return dict(zip(zip(*columns, strict=True), side.outcomes.tolist(), strict=True))
