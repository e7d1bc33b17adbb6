"""What a night has to show before it may become the baseline: absolute rules, for there is nothing to compare with."""

from __future__ import annotations

from harness.analysis.paired.pairing import ERROR, SUCCESS, Side
from harness.analysis.success.controls import positive_control
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
        rules: Its `floor` and `errors` are used; without a floor one solved episode is asked, of `scripted` 95 %.

    Returns:
        PASS or INCONCLUSIVE per rule: nothing fails that nothing is known of.
    """
    errors, solved = int((side.outcomes == ERROR).sum()), int((side.outcomes == SUCCESS).sum())
    scored = side.n - errors
    floor = rules.floor.min_rate if rules.floor else 0.0
    if positive_control(side.policy_id):
        floor = max(floor, SCRIPTED_FLOOR)
    reached = scored >= rules.pairs.min and solved > 0 and solved >= floor * scored
    limit = rules.errors.max_rate if rules.errors else MAX_ERROR_RATE
    few = side.n > 0 and errors <= limit * side.n
    figures = f"{solved} of {scored} episodes solved"
    wanted = (
        f"at least {rules.pairs.min} episodes and {floor:.1%} of success"
        if floor
        else (f"at least {rules.pairs.min} episodes and one that is solved")
    )
    return [
        RuleResult("first night: success", _verdict(reached), f"{figures}; wanted: {wanted}."),
        RuleResult(
            "first night: errors",
            _verdict(few),
            f"{errors} infrastructure errors in {side.n} episodes; limit {limit:.1%}.",
        ),
    ]


def _verdict(met: bool) -> Verdict:
    return Verdict.PASS if met else Verdict.INCONCLUSIVE
