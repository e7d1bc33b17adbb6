"""When a sequential gate is certain: what a controller asks between episodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.analysis.intervals import Ints
from harness.analysis.paired.pairing import ERROR, SUCCESS, TIMEOUT, Codes
from harness.errors import UsageError
from harness.gate.pairs import GroupEvidence, PairTable
from harness.gate.score import score_futile
from harness.gate.success import judge_success, pairs_to_go
from harness.gate.verdict import Verdict, combine
from harness.spec.rules import GateRules


@dataclass(frozen=True, slots=True)
class PairOutcome:
    """One episode, run by both sides. None is an infrastructure error that will not be retried."""

    task: str
    base: bool | None
    candidate: bool | None
    base_score: float = float("nan")
    """Partial credit; NaN where it is not known."""
    candidate_score: float = float("nan")


@dataclass(frozen=True)
class StopDecision:
    """What a controller does next."""

    stop: bool
    """Whether the queued episodes may be dropped: the verdict is certain, or the rest could hardly bring one."""
    verdict: Verdict
    """The verdict so far; INCONCLUSIVE means go on."""
    reason: str
    needed_more: int | None
    """Of `decide_stop`, if undecided: about how many more pairs decide, should they go on as they did."""
    look: int | None = None
    """The planned look at which this was decided, from 1; None without a plan."""


def decide_stop(pairs_so_far: Iterable[PairOutcome], rules: GateRules) -> StopDecision:
    """Decide whether enough episodes have been run, without a plan of looks: an e-process.

    A pure function of the pairs: ask as often as you like. A run whose looks are planned is decided by `decide_look`,
    which needs fewer episodes.

    Args:
        pairs_so_far: Pairs in the order that was fixed before the run, up to the first unfinished one:
            the finished ones alone would be a biased sample.
        rules: Rules of sequential or anytime design.

    Raises:
        UsageError: The rules are of fixed design.
    """
    refuse_fixed(rules)
    table = pair_table(list(pairs_so_far))
    decision = _decide(table, rules, None)
    evidence = table.overall(anytime=True).scored
    if decision.stop or rules.success is None or evidence.counts.n < rules.pairs.min:
        return decision
    needed = pairs_to_go(evidence, rules.success, rules.alpha_of(rules.success), rules.alpha)
    return replace(decision, needed_more=needed)


def decide_look(table: PairTable, rules: GateRules, look: int) -> StopDecision:
    """Decide at a planned look: whatever an earlier look decided stands, since the run stopped there.

    Args:
        table: Pairs with their rounds.
        rules: Rules of sequential design.
        look: Looks that have been taken, counted from 1.

    Raises:
        UsageError: The rules are of fixed design.
    """
    refuse_fixed(rules)
    if rules.design == "anytime" or table.rounds is None:
        return _decide(table.until(look), rules, None)
    decision = StopDecision(False, Verdict.INCONCLUSIVE, "No look was taken.", None)
    for taken in range(1, look + 1):
        decision = _decide(table.until(taken), rules, taken)
        if decision.stop:
            break
    return decision


def refuse_fixed(rules: GateRules) -> None:
    """Refuse rules that allow one look only.

    Raises:
        UsageError: The rules are of fixed design.
    """
    if rules.design == "fixed":
        raise UsageError(
            f"Rules {rules.name!r} have a fixed design: looking early would raise their false alarms. "
            "Set `design: sequential`."
        )


def _decide(table: PairTable, rules: GateRules, look: int | None) -> StopDecision:
    overall = table.overall(anytime=look is None, look=look)
    counts = overall.scored.counts
    if counts.n < rules.pairs.min:
        return StopDecision(False, Verdict.INCONCLUSIVE, f"{counts.n} of at least {rules.pairs.min} pairs.", None, look)
    judged = judge_success(table, rules, look=look)
    verdict = combine(result.verdict for result in judged)
    reason = " ".join(f"{result.rule}: {result.reason}" for result in judged if result.verdict is verdict)
    futile = verdict is Verdict.INCONCLUSIVE and _is_futile(table, rules, overall, look)
    stop = verdict is not Verdict.INCONCLUSIVE or futile
    return StopDecision(stop, verdict, reason, None, look)


def _is_futile(table: PairTable, rules: GateRules, overall: GroupEvidence, look: int | None) -> bool:
    """Whether none of the rules that can stop a run has a fair chance to decide any more."""
    found = []
    if rules.success:
        margin, alpha = rules.success.margin, rules.alpha_of(rules.success)
        found.append(all(evidence.futile(margin, alpha, rules.alpha) for evidence in overall.views()))
    if rules.score:
        found.append(score_futile(table, rules, rules.score, look))
    return bool(found) and all(found)


def pair_table(
    pairs: Sequence[PairOutcome],
    rounds: Sequence[int] | None = None,
    planned: Ints | None = None,
    names: Sequence[str] | None = None,
) -> PairTable:
    """Pairs as a table.

    Args:
        pairs: The pairs.
        rounds: Planned look of each, from 0.
        planned: Pairs that the plan has, by look and task.
        names: Tasks, in the order of `planned`; those of the pairs when not given.
    """
    tasks = list(dict.fromkeys(pair.task for pair in pairs)) if names is None else list(names)
    numbers = {name: number for number, name in enumerate(tasks)}
    return PairTable(
        tasks,
        np.array([numbers[pair.task] for pair in pairs], dtype=np.int64),
        _codes([pair.base for pair in pairs]),
        _codes([pair.candidate for pair in pairs]),
        rounds=None if rounds is None else np.asarray(rounds, dtype=np.int64),
        planned=planned,
        base_scores=np.array([pair.base_score for pair in pairs], dtype=float),
        candidate_scores=np.array([pair.candidate_score for pair in pairs], dtype=float),
    )


def _codes(outcomes: Sequence[bool | None]) -> Codes:
    return np.array([ERROR if one is None else SUCCESS if one else TIMEOUT for one in outcomes], dtype=np.int8)
