"""When a sequential gate is certain: what a controller asks between episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.paired.sequential import log_evidence_above, log_evidence_below
from harness.analysis.paired.statistics import PairCounts
from harness.errors import UsageError
from harness.gate.success import TaskPairs, judge_success
from harness.gate.verdict import Verdict, combine
from harness.spec.rules import GateRules


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """One episode, run by both sides. None is an infrastructure error that will not be retried."""

    task: str
    base: bool | None
    candidate: bool | None


@dataclass(frozen=True)
class StopDecision:
    """What a controller does next."""

    stop: bool
    """Whether the queued episodes may be dropped: the verdict on success cannot change any more."""
    verdict: Verdict
    """The verdict so far; INCONCLUSIVE means go on."""
    reason: str
    needed_more: int | None
    """If undecided: about how many more pairs decide, should they go on as they did; None when there is no telling."""


def decide_stop(pairs_so_far: Iterable[PairOutcome], rules: GateRules) -> StopDecision:
    """Decide whether enough episodes have been run. A pure function of the pairs: ask as often as you like.

    Args:
        pairs_so_far: Pairs in the order that was fixed before the run, up to the first unfinished one:
            the finished ones alone would be a biased sample.
        rules: Rules of sequential design.

    Raises:
        UsageError: The rules are of fixed design.
    """
    if rules.design != "sequential":
        raise UsageError(
            f"Rules {rules.name!r} have a fixed design: looking early would raise their false alarms. "
            "Set `design: sequential`."
        )
    pairs = list(pairs_so_far)
    overall = _count("all tasks", pairs)
    tasks = [_count(name, members) for name, members in _by_task(pairs).items()]
    judged = judge_success(overall, tasks, rules)
    verdict = combine(result.verdict for result in judged)
    reason = " ".join(f"{result.rule}: {result.reason}" for result in judged if result.verdict is verdict)
    if overall.scored.n < rules.pairs.min:
        return StopDecision(
            False, Verdict.INCONCLUSIVE, f"{overall.scored.n} of at least {rules.pairs.min} pairs.", None
        )
    stop = verdict is not Verdict.INCONCLUSIVE
    return StopDecision(stop, verdict, reason, None if stop else pairs_to_go(overall.scored, rules))


def pairs_to_go(counts: PairCounts, rules: GateRules) -> int | None:
    """How many more pairs decide about success, if outcomes go on in the proportions seen so far.

    Returns:
        A rough number; None when the evidence grows in neither direction.
    """
    if rules.success is None or counts.n == 0:
        return None
    lost, gained, n = float(counts.lost), float(counts.gained), float(counts.n)
    thresholds = np.log(1 / rules.alpha), np.log(1 / rules.alpha_of(rules.success))

    def decided(scale: float) -> bool:
        scaled = gained * scale, lost * scale, n * scale
        above = float(log_evidence_above(*scaled, -rules.success.margin)) if rules.success else 0.0
        below = float(log_evidence_below(*scaled, 0.0))
        return bool(above >= thresholds[0] or below >= thresholds[1])

    low, high = 1.0, 2.0
    while not decided(high):
        low, high = high, high * 2
        if high > 2**16:
            return None
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return max(1, int(np.ceil(n * (high - 1))))


def _by_task(pairs: Sequence[PairOutcome]) -> dict[str, list[PairOutcome]]:
    tasks: dict[str, list[PairOutcome]] = {}
    for outcome in pairs:
        tasks.setdefault(outcome.task, []).append(outcome)
    return tasks


def _count(name: str, pairs: Sequence[PairOutcome]) -> TaskPairs:
    scored = [pair for pair in pairs if pair.base is not None and pair.candidate is not None]
    return TaskPairs(
        name,
        PairCounts.of([bool(pair.base) for pair in scored], [bool(pair.candidate) for pair in scored]),
        PairCounts.of([bool(pair.base) for pair in pairs], [bool(pair.candidate) for pair in pairs]),
    )
