"""Rules about success: judged with errors left out and as bad, or as good, for the candidate as they can have been.

Verdicts err at most as often as stated. A rule FAILS with probability at most its share of the gate's alpha when
nothing changed; the shares add up, so the gate as a whole does too. It PASSES a candidate that truly dropped by the
margin with probability at most the gate's whole alpha: since every rule has to pass, that level needs no sharing.
Infrastructure errors may hide failures or successes: a PASS has to hold in the worst case, a FAIL in the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from harness.analysis.intervals import rate_interval
from harness.analysis.paired.statistics import PairCounts, holm
from harness.gate.evidence import AnytimeEvidence, Evidence, FixedEvidence, points
from harness.gate.outlook import more_needed, outlook_text
from harness.gate.pairs import GroupEvidence, PairTable
from harness.gate.score import judge_score
from harness.gate.verdict import RuleResult, Verdict
from harness.spec.rules import FloorRule, GateRules, SuccessRule, TaskRule, TooGoodRule

Judgement = tuple[Verdict, str]


def judge_success(
    table: PairTable, rules: GateRules, *, variants: int = 1, look: int | None = None, outlook: bool = False
) -> list[RuleResult]:
    """Judge every success rule that the rules state.

    Args:
        table: The pairs.
        rules: The rules.
        variants: Number of (policy, NFE) variants that share the gate's alpha.
        look: Looks that were taken of the planned ones, for a sequential design with a plan; None for one look at all,
            or for an e-process.
        outlook: Whether a rule that is undecided says how much more would decide it, which takes longer to find.
    """
    anytime = rules.design != "fixed" and look is None
    overall = table.overall(anytime=anytime, look=look)
    results = []
    if rules.success:
        rule, alpha = rules.success, rules.alpha_of(rules.success) / variants
        judge = partial(_success, rule=rule, alpha=alpha, pass_alpha=rules.alpha)
        result = _agreed("success", _each_view(overall, judge), overall)
        # Where errors decide, more pairs are not what is missing.
        if outlook and judge(overall.scored)[0] is result.verdict is Verdict.INCONCLUSIVE and overall.scored.counts.n:
            said = _outlook(overall.scored, rule, alpha, rules)
            result = replace(result, reason=f"{result.reason} {said}" if said else result.reason)
        results.append(result)
    if rules.score:
        score_alpha = rules.alpha_of(rules.score) / variants
        results.append(judge_score(table, rules, rules.score, score_alpha, look, outlook=outlook))
    if rules.per_task:
        task_rule, alpha = rules.per_task, rules.alpha_of(rules.per_task) / variants
        tasks = table.by_task(anytime=anytime, look=look)
        views = _views(tasks) if overall.errors else _views(tasks)[:1] * 3
        judged = [_cliffs(members, task_rule, alpha, rules.alpha, outlook=outlook) for members in views]
        results.append(_agreed("per-task cliff", judged, overall))
    if rules.floor:
        floor_rule, alpha = rules.floor, rules.alpha_of(rules.floor) / variants
        results.append(judge_floor(table, floor_rule, alpha, rules.alpha, anytime=anytime, look=look))
    if rules.too_good:
        rise_rule, alpha = rules.too_good, rules.alpha_of(rules.too_good) / variants
        scored, worst, best = _each_view(overall, partial(_too_good, rule=rise_rule, alpha=alpha))
        # A rise is an alarm: it has to stand the view in which it is smallest, and its absence the other.
        results.append(_agreed("too good", [scored, best, worst], overall))
    return results


def _each_view(group: GroupEvidence, judge: Callable[[Evidence], Judgement]) -> list[Judgement]:
    if group.errors == 0:
        return [judge(group.scored)] * 3
    return [judge(evidence) for evidence in group.views()]


def _views(tasks: Sequence[GroupEvidence]) -> tuple[list[tuple[str, Evidence]], ...]:
    return (
        [(task.name, task.scored) for task in tasks],
        [(task.name, task.worst) for task in tasks],
        [(task.name, task.best) for task in tasks],
    )


def _agreed(rule: str, judged: Sequence[Judgement], overall: GroupEvidence) -> RuleResult:
    """One verdict of three views: errors left out; what a PASS has to stand; what a FAIL has to stand."""
    (scored, reason), (for_pass, pass_reason), (for_fail, fail_reason) = judged
    if overall.scored.counts.n == 0:
        return RuleResult(rule, Verdict.INCONCLUSIVE, "No pair has a result on both sides.")
    if overall.errors == 0 or scored is Verdict.INCONCLUSIVE:
        return RuleResult(rule, scored, reason)
    against, other = (for_pass, pass_reason) if scored is Verdict.PASS else (for_fail, fail_reason)
    kind = "bad" if scored is Verdict.PASS else "good"
    if against is scored:
        said = f"The same holds if {overall.errors} pairs with errors went as {kind} for the candidate as they can."
        return RuleResult(rule, scored, f"{reason} {said}")
    return RuleResult(
        rule,
        Verdict.INCONCLUSIVE,
        f"Infrastructure errors decide it. Left out: {scored}: {reason} As {kind} for the candidate as they can have "
        f"been: {against}: {other}",
    )


def _success(evidence: Evidence, rule: SuccessRule, alpha: float, pass_alpha: float) -> Judgement:
    counts = evidence.counts
    margin = rule.margin
    if counts.n == 0:
        return Verdict.INCONCLUSIVE, "No pair has a result on both sides."
    said = (
        f"{points(counts.difference)} over {counts.n} pairs ({counts.lost} lost, {counts.gained} gained); "
        f"{evidence.figures(-margin, pass_alpha)}, margin {points(-margin)}"
    )
    scope = evidence.scope(alpha, pass_alpha)
    scope = f" {scope}" if scope else ""
    real = f"a real drop ({evidence.drop_text(alpha)})"
    solved = counts.both + counts.lost
    if solved <= margin * counts.n:
        return Verdict.INCONCLUSIVE, (
            f"The base solves {solved} of {counts.n}: losing all of it would be within the margin of "
            f"{points(-margin)}, so nothing can be judged. State a floor, and look at the base."
        )
    if evidence.above(-margin, pass_alpha):
        note = f" It is {real}, but a tolerated one." if evidence.drop(alpha) else ""
        return Verdict.PASS, f"{said}.{note}{scope}"
    if rule.fail_when == "worse" and evidence.worse(margin, alpha, pass_alpha):
        return Verdict.FAIL, f"{said}: {real}, and more than the margin is not excluded.{scope}"
    if rule.fail_when == "beyond_margin" and evidence.beyond(margin, alpha):
        return Verdict.FAIL, f"{said}: a drop beyond the margin is shown at {1 - alpha:.4g}.{scope}"
    if evidence.futile(margin, alpha, pass_alpha):
        given_up = "Given up: the rest of the plan has hardly a chance to show either a drop or its absence."
        return Verdict.INCONCLUSIVE, f"{said}. {given_up}{scope}"
    return Verdict.INCONCLUSIVE, f"{said}. Neither a drop nor its absence is shown.{scope}"


def _outlook(evidence: Evidence, rule: SuccessRule, alpha: float, rules: GateRules) -> str:
    """How much more would decide, in a sentence; empty where that is not the question."""
    if evidence.counts.both + evidence.counts.lost <= rule.margin * evidence.counts.n:
        return ""
    needed = pairs_to_go(evidence, rule, alpha, rules.alpha)
    if rules.cluster is None:
        return outlook_text(needed, evidence.extent)
    unit = {"init_state": "init states", "task": "tasks"}[rules.cluster]
    told = outlook_text(needed, evidence.extent, unit)
    return f"{told} More episodes of the same {unit} would not: {unit} are what is sampled."


def pairs_to_go(evidence: Evidence, rule: SuccessRule, alpha: float, pass_alpha: float) -> int | None:
    """How much more decides about success, if everything goes on in the proportions seen so far.

    It asks of each further look what the rule itself asks there, so that the number is right for each design.

    Args:
        evidence: What there is; undecided.
        rule: The rule.
        alpha: Error of a FAIL.
        pass_alpha: Error of a PASS.

    Returns:
        Pairs; clusters, where those are what is sampled; None where no number decides.
    """

    def decides(later: Evidence) -> bool:
        if later.above(-rule.margin, pass_alpha):
            return True
        if rule.fail_when == "worse":
            return later.worse(rule.margin, alpha, pass_alpha)
        return later.beyond(rule.margin, alpha)

    return more_needed(evidence, decides)


def _cliffs(
    members: Sequence[tuple[str, Evidence]], rule: TaskRule, alpha: float, pass_alpha: float, *, outlook: bool
) -> Judgement:
    judged = [(name, evidence) for name, evidence in members if evidence.counts.n >= rule.min_pairs]
    if not judged:
        return Verdict.INCONCLUSIVE, f"No task has {rule.min_pairs} pairs."
    if shown := _collapsed(judged, rule, alpha):
        name, counts = min(shown, key=lambda item: item[1].difference)
        more = f", and {len(shown) - 1} more" if len(shown) > 1 else ""
        figures = (
            f"{points(counts.difference)} over {counts.n} pairs, a real drop over {len(judged)} tasks at {alpha:.2g}"
        )
        return Verdict.FAIL, f"{name} collapsed: {figures}{more}."
    if not any(one.counts.both + one.counts.lost for _, one in judged):
        return Verdict.INCONCLUSIVE, (
            f"The base solves nothing in {len(judged)} tasks: none can collapse, so nothing can be judged. State a "
            "floor, and look at the base."
        )
    name, evidence = min(judged, key=lambda item: item[1].counts.difference)
    worst = f"{name}, {points(evidence.counts.difference)} over {evidence.counts.n} pairs"
    scope = f"{len(judged)} tasks"
    few = [name for name, evidence in members if evidence.counts.n < rule.min_pairs]
    undecided = [one for one, task in judged if not task.above(-rule.cliff, pass_alpha)]
    if not undecided and few:
        more = f" and {len(few) - 1} more have" if len(few) > 1 else " has"
        return Verdict.INCONCLUSIVE, (
            f"No drop of {100 * rule.cliff:g} points in any of {scope}, but {few[0]}{more} fewer than {rule.min_pairs} "
            "pairs: run more trials."
        )
    if not undecided:
        return Verdict.PASS, f"No drop of {100 * rule.cliff:g} points in any of {scope}. Worst: {worst}."
    said = f"A collapse of {points(-rule.cliff)} is not excluded for {len(undecided)} of {scope}. Worst: {worst}."
    if not outlook:
        return Verdict.INCONCLUSIVE, said
    return Verdict.INCONCLUSIVE, (
        f"{said} A task without a loss needs {_least(evidence, rule.cliff, pass_alpha)} pairs, one with losses more: "
        "run more trials, or raise the cliff."
    )


def _least(evidence: Evidence, cliff: float, pass_alpha: float) -> int:
    """Pairs without any loss that exclude a cliff, by the design of some evidence."""
    low, high = 0, 1
    while not evidence.without_loss(high).above(-cliff, pass_alpha):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if evidence.without_loss(middle).above(-cliff, pass_alpha) else (middle, high)
    return evidence.without_loss(high).counts.n


def _collapsed(judged: Sequence[tuple[str, Evidence]], rule: TaskRule, alpha: float) -> list[tuple[str, PairCounts]]:
    """Tasks with a real drop, that is at least a cliff; over all tasks with error alpha."""
    p_values = [one.p_drop() for _, one in judged if isinstance(one, FixedEvidence | AnytimeEvidence)]
    if len(p_values) == len(judged):
        dropped = [bool(p <= alpha) for p in holm(p_values)]
    else:
        dropped = [one.drop(alpha / len(judged)) for _, one in judged]
    return [
        (name, one.counts)
        for (name, one), shown in zip(judged, dropped, strict=True)
        if shown and one.counts.difference <= -rule.cliff
    ]


def judge_floor(
    table: PairTable,
    rule: FloorRule,
    alpha: float,
    pass_alpha: float,
    *,
    anytime: bool = False,
    look: int | None = None,
) -> RuleResult:
    """Judge whether the candidate's own rate is shown to reach a floor, or to miss it.

    By one-sided Clopper-Pearson bounds; where looks or clusters are weighed, by the tests of a margin, beside a base
    that solves everything.

    Args:
        table: The pairs; of the base nothing counts.
        rule: The rule.
        alpha: Error of a FAIL.
        pass_alpha: Error of a PASS.
        anytime: Whether it is looked at after every pair.
        look: Looks that were taken of the planned ones.
    """
    solved = table.alone().overall(anytime=anytime, look=look)
    failed = table.alone(failures=True).overall(anytime=anytime, look=look)
    views = ((solved.scored, failed.scored), (solved.worst, failed.best), (solved.best, failed.worst))
    return _agreed("floor", [_floor(*view, rule.min_rate, alpha, pass_alpha) for view in views], solved)


def _floor(solved: Evidence, failed: Evidence, min_rate: float, alpha: float, pass_alpha: float) -> Judgement:
    counts = solved.counts
    figures = f"The candidate solves {counts.both} of {counts.n}; the floor is {min_rate:.1%}"
    if isinstance(solved, FixedEvidence) and solved.clusters is None:
        misses = rate_interval(counts.both, counts.n, 1 - 2 * alpha).high < min_rate
        reaches = rate_interval(counts.both, counts.n, 1 - 2 * pass_alpha).low >= min_rate
    else:
        misses, reaches = failed.above(-min_rate, alpha), solved.above(min_rate - 1, pass_alpha)
    if misses:
        return Verdict.FAIL, f"{figures}, which it truly misses (at {1 - alpha:.4g})."
    if reaches:
        return Verdict.PASS, f"{figures}, which it truly reaches (at {1 - pass_alpha:.4g})."
    return Verdict.INCONCLUSIVE, f"{figures}: too near to tell with so many episodes."


def _too_good(evidence: Evidence, rule: TooGoodRule, alpha: float) -> Judgement:
    counts = evidence.counts
    figures = f"{points(counts.difference)} over {counts.n} pairs ({counts.gained} gained, {counts.lost} lost)"
    alarm = evidence.rise(alpha) if rule.margin == 0 else evidence.above(rule.margin, alpha)
    above = "any rise" if rule.margin == 0 else f"more than {points(rule.margin)}"
    if not alarm:
        return Verdict.PASS, f"{figures}; {above} is not shown at {1 - alpha:.4g}."
    verdict = Verdict.FAIL if rule.verdict == "fail" else Verdict.INCONCLUSIVE
    return verdict, (
        f"{figures}; {above} is shown at {1 - alpha:.4g}: a rise that nobody announced. Check that both sides ran the "
        "same physics, init states and success rule before believing it."
    )
