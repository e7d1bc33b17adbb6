"""Rules about success: judged with errors left out and with errors as failures; the two have to agree.

Verdicts err at most as often as stated. A rule FAILS with probability at most its share of the gate's alpha when
nothing changed; the shares add up, so the gate as a whole does too. It PASSES a candidate that truly dropped by the
margin with probability at most the gate's whole alpha: since every rule has to pass, that level needs no sharing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.paired.power import pairs_for_margin
from harness.analysis.paired.statistics import PairCounts, holm
from harness.gate.evidence import Evidence
from harness.gate.verdict import RuleResult, Verdict
from harness.spec.rules import GateRules, SuccessRule, TaskRule, TooGoodRule

Judgement = tuple[Verdict, str]


@dataclass(frozen=True)
class TaskPairs:
    """Pairs of one task, or of everything."""

    name: str
    scored: PairCounts
    """Errors left out."""
    strict: PairCounts
    """Errors counted as failures."""


def judge_success(
    overall: TaskPairs, tasks: Sequence[TaskPairs], rules: GateRules, *, variants: int = 1
) -> list[RuleResult]:
    """Judge every success rule that the rules state.

    Args:
        overall: All pairs.
        tasks: The same pairs by task.
        rules: The rules.
        variants: Number of (policy, NFE) variants that share the gate's alpha.
    """
    sequential = rules.design == "sequential"
    results = []
    if rules.success:
        rule, alpha = rules.success, rules.alpha_of(rules.success) / variants
        judged = [_success(Evidence(counts, sequential), rule, alpha, rules.alpha) for counts in _both(overall)]
        results.append(_agreed("success", judged, overall))
    if rules.per_task:
        task_rule, alpha = rules.per_task, rules.alpha_of(rules.per_task) / variants
        judged = [_cliffs(tasks, strict, task_rule, alpha, sequential) for strict in (False, True)]
        results.append(_agreed("per-task cliff", judged, overall))
    if rules.too_good:
        rise_rule, alpha = rules.too_good, rules.alpha_of(rules.too_good) / variants
        judged = [_too_good(Evidence(counts, sequential), rise_rule, alpha) for counts in _both(overall)]
        results.append(_agreed("too good", judged, overall))
    return results


def _both(counts: TaskPairs) -> tuple[PairCounts, PairCounts]:
    return counts.scored, counts.strict


def _agreed(rule: str, judged: Sequence[Judgement], overall: TaskPairs) -> RuleResult:
    (scored, reason), (strict, strict_reason) = judged
    if overall.scored.n == 0:
        return RuleResult(rule, Verdict.INCONCLUSIVE, "No pair has a result on both sides.")
    if overall.scored == overall.strict:
        return RuleResult(rule, scored, reason)
    if scored is strict:
        errors = overall.strict.n - overall.scored.n
        return RuleResult(rule, scored, f"{reason} The same holds with {errors} pairs with errors counted as failures.")
    return RuleResult(
        rule,
        Verdict.INCONCLUSIVE,
        f"Infrastructure errors decide it. Left out: {scored}: {reason} Counted as failures: {strict}: {strict_reason}",
    )


def _success(evidence: Evidence, rule: SuccessRule, alpha: float, pass_alpha: float) -> Judgement:
    counts = evidence.counts
    lower, p_drop = evidence.lower(pass_alpha), evidence.p_drop()
    figures = (
        f"{points(counts.difference)} over {counts.n} pairs ({counts.lost} lost, {counts.gained} gained); lower bound "
        f"{points(lower)} at {1 - pass_alpha:.4g}, margin {points(-rule.margin)}"
    )
    real = f"a real drop (p = {p_drop:.2g}, alarm at {alpha:.2g})"
    if lower > -rule.margin:
        note = f" It is {real}, but a tolerated one." if p_drop <= alpha else ""
        return Verdict.PASS, f"{figures}.{note}"
    if rule.fail_when == "worse" and p_drop <= alpha:
        return Verdict.FAIL, f"{figures}: {real}, and more than the margin is not excluded."
    if rule.fail_when == "beyond_margin" and (upper := evidence.upper(alpha)) < -rule.margin:
        return Verdict.FAIL, f"{figures}; upper bound {points(upper)} at {1 - alpha:.4g}: a drop beyond the margin."
    return Verdict.INCONCLUSIVE, f"{figures}. {_what_it_needs(evidence, rule, pass_alpha)}"


def _what_it_needs(evidence: Evidence, rule: SuccessRule, alpha: float) -> str:
    if evidence.sequential:
        return "Neither a drop nor its absence is shown yet."
    # With no flips seen the discordance is not 0: one flip more is as likely as not.
    counts = evidence.counts
    discordance = max(counts.discordance, 0.7 / counts.n) if counts.n else 0.05
    needed = pairs_for_margin(rule.margin, discordance, 1 - alpha)
    if needed is None or needed <= counts.n:
        return "Neither a drop nor its absence is shown."
    return f"Neither a drop nor its absence is shown; if there is none, about {needed} pairs would show that."


def _cliffs(tasks: Sequence[TaskPairs], strict: bool, rule: TaskRule, alpha: float, sequential: bool) -> Judgement:
    judged = [(task.name, task.strict if strict else task.scored) for task in tasks]
    judged = [(name, counts) for name, counts in judged if counts.n >= rule.min_pairs]
    if not judged:
        return Verdict.INCONCLUSIVE, f"No task has {rule.min_pairs} pairs."
    adjusted = holm([Evidence(counts, sequential).p_drop() for _, counts in judged])
    cliffs = [
        (name, counts, float(p))
        for (name, counts), p in zip(judged, adjusted, strict=True)
        if counts.difference <= -rule.cliff
    ]
    left_out = len(tasks) - len(judged)
    scope = f"{len(judged)} tasks" + (
        f" ({left_out} with under {rule.min_pairs} pairs are not judged)" if left_out else ""
    )
    if shown := [item for item in cliffs if item[2] <= alpha]:
        name, counts, p = min(shown, key=lambda item: item[2])
        more = f", and {len(shown) - 1} more" if len(shown) > 1 else ""
        figures = f"{points(counts.difference)} over {counts.n} pairs, Holm p = {p:.2g}, alarm at {alpha:.2g}"
        return Verdict.FAIL, f"{name} collapsed: {figures}{more}."
    if cliffs:
        name, counts, p = min(cliffs, key=lambda item: item[1].difference)
        return Verdict.INCONCLUSIVE, (
            f"{name} shows {points(counts.difference)} over {counts.n} pairs, beyond the cliff of "
            f"{points(-rule.cliff)}, but that may be chance (Holm p = {p:.2g}, alarm at {alpha:.2g}): run more trials."
        )
    name, counts = min(judged, key=lambda item: item[1].difference)
    return Verdict.PASS, f"Worst of {scope}: {name}, {points(counts.difference)} over {counts.n} pairs."


def _too_good(evidence: Evidence, rule: TooGoodRule, alpha: float) -> Judgement:
    counts = evidence.counts
    figures = f"{points(counts.difference)} over {counts.n} pairs ({counts.gained} gained, {counts.lost} lost)"
    if rule.margin == 0:
        p = evidence.p_rise()
        alarm, shown = p <= alpha, f"p = {p:.2g}, alarm at {alpha:.2g}"
    else:
        lower = evidence.lower(alpha)
        alarm = lower > rule.margin
        shown = f"lower bound {points(lower)} at {1 - alpha:.4g}, alarm above {points(rule.margin)}"
    if not alarm:
        return Verdict.PASS, f"{figures}; {shown}."
    verdict = Verdict.FAIL if rule.verdict == "fail" else Verdict.INCONCLUSIVE
    return verdict, (
        f"{figures}; {shown}: a rise that nobody announced. Check that both sides ran the same physics, init states "
        "and success rule before believing it."
    )


def points(value: float) -> str:
    """A difference of rates in percentage points, signed."""
    return f"{100 * value:+.1f} points"
