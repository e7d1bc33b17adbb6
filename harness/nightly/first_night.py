"""What a night has to show before it may become the baseline: absolute rules, for there is nothing to compare with."""

from __future__ import annotations

import numpy as np

from harness.analysis.paired.pairing import ERROR, SUCCESS, Side
from harness.analysis.success.controls import positive_control
from harness.gate.pairs import PairTable, cluster_codes
from harness.gate.success import judge_floor
from harness.gate.verdict import RuleResult, Verdict
from harness.spec.rules import FloorRule, GateRules

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
        judged = judge_floor(_alone(side, rules), FloorRule(min_rate=floor), rules.alpha, rules.alpha)
        reached = many and judged.verdict is Verdict.PASS
        said = f"{said}. {judged.reason if scored else 'None has a result.'}"
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


def _alone(side: Side, rules: GateRules) -> PairTable:
    """The night's episodes, with the clusters that the rules sample; of a base there is nothing."""
    columns = [side.details[column].to_pylist() for column in ("suite", "task_id", "task")]
    names = list(zip(*columns, strict=True))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    task = np.array([numbers[name] for name in names], dtype=np.int64)
    cluster = cluster_codes(side.details, task, rules.cluster) if rules.cluster else None
    return PairTable([str(name) for name in numbers], task, side.outcomes, side.outcomes, cluster)


def _verdict(met: bool) -> Verdict:
    return Verdict.PASS if met else Verdict.INCONCLUSIVE
