"""What a night has to show before it may become the baseline: absolute rules, for there is nothing to compare with."""

from __future__ import annotations

from harness.analysis.paired.pairing import ERROR, SUCCESS, Side
from harness.analysis.success.controls import positive_control
from harness.gate.success import judge_floor
from harness.gate.verdict import RuleResult, Verdict
from harness.spec.rules import GateRules

SCRIPTED_FLOOR = 0.95
"""The positive control solves at least so much where the simulator is sound."""

MAX_ERROR_RATE = 0.02
"""Largest share of infrastructure errors, for rules that state none."""


def judge_first_night(side: Side, rules: GateRules) -> list[RuleResult]:
    """Judge a night without a base.

    Args:
        side: The night's episodes.
        rules: Its `floor`, `errors` and `alpha` are used; without a floor one solved episode is asked, of `scripted`
            95 %. A floor is reached when the night shows it, as the rule `floor` of a gate asks: the lower bound of the
            rate, at one minus alpha, also if what ended in an error had failed.

    Returns:
        PASS or INCONCLUSIVE per rule: nothing fails that nothing is known of.
    """
    errors, solved = int((side.outcomes == ERROR).sum()), int((side.outcomes == SUCCESS).sum())
    scored = side.n - errors
    floor = rules.floor.min_rate if rules.floor else 0.0
    if positive_control(side.policy_id):
        floor = max(floor, SCRIPTED_FLOOR)
    many = scored >= rules.pairs.min
    said = f"{solved} of {scored} episodes solved; wanted: at least {rules.pairs.min} episodes"
    if floor:
        judged = [judge_floor(solved, n, floor, rules.alpha, rules.alpha) for n in (side.n, scored) if n]
        reached = many and bool(judged) and all(verdict is Verdict.PASS for verdict, _ in judged)
        said = f"{said}. {judged[0][1] if judged else 'None has a result.'}"
    else:
        reached = many and solved > 0
        said = f"{said} and one that is solved."
    limit = rules.errors.max_rate if rules.errors else MAX_ERROR_RATE
    few = side.n > 0 and errors <= limit * side.n
    return [
        RuleResult("first night: success", _verdict(reached), said),
        RuleResult(
            "first night: errors",
            _verdict(few),
            f"{errors} infrastructure errors in {side.n} episodes; limit {limit:.1%}.",
        ),
    ]


def _verdict(met: bool) -> Verdict:
    return Verdict.PASS if met else Verdict.INCONCLUSIVE
