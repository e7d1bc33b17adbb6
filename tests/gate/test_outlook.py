"""How much more would decide: the number that a verdict prints is the one after which its own design decides."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from harness.analysis.paired.clusters import Clusters
from harness.analysis.paired.compare import compare
from harness.analysis.paired.statistics import PairCounts
from harness.gate import gate
from harness.gate.evidence import AnytimeEvidence, FixedEvidence, LookEvidence
from harness.gate.success import pairs_to_go
from harness.report.gate.answers import comparison_lines
from harness.report.gate.tables import success_rows
from harness.spec.rules import GateRules, ScoreRule, SuccessRule, TaskRule

RULE = SuccessRule(margin=0.03)
LOOKS = tuple(range(10, 101, 10))


def reason(result: Any, rule: str) -> str:
    return next(one.reason for one in result.results if one.rule == rule)


def number(text: str) -> tuple[int, int]:
    """(more, in all) of a reason."""
    found = re.search(r"about ([\d,]+) more \w+(?: \w+)? would decide \(([\d,]+) in all\)", text)
    assert found, text
    more, total = (int(part.replace(",", "")) for part in found.groups())
    return more, total


def planned(sizes: tuple[int, ...], taken: int, lost: int = 0, gained: int = 0) -> LookEvidence:
    """Looks at pairs that flip evenly."""
    whole = sizes[taken - 1]
    looks = [(round(lost * size / whole), round(gained * size / whole), size) for size in sizes[:taken]]
    return LookEvidence(tuple(PairCounts(size - a - b, a, b, 0) for a, b, size in looks), sizes)


@pytest.mark.parametrize(
    "evidence",
    [
        FixedEvidence(PairCounts(60, 0, 0, 0)),
        FixedEvidence(PairCounts(200, 8, 6, 0)),
        AnytimeEvidence(PairCounts(100, 0, 0, 0)),
        planned(LOOKS, 10),
        planned(tuple(range(50, 501, 50)), 10, 18, 12),
        planned(tuple(range(50, 501, 50)), 2, 2, 2),
    ],
    ids=["fixed", "fixed with flips", "anytime", "plan ended", "plan ended with flips", "within the plan"],
)
def test_so_many_more_decide_and_a_third_fewer_do_not(evidence: Any) -> None:
    def decides(one: Any) -> bool:
        return bool(one.above(-0.03, 0.05) or one.worse(0.03, 0.05, 0.05))

    assert not decides(evidence)
    needed = pairs_to_go(evidence, RULE, 0.05, 0.05)
    assert needed is not None
    assert decides(evidence.prolonged(evidence.extent + needed))
    fewer = [size for size in evidence.coming if size < evidence.extent + needed]
    fewer = fewer or [evidence.extent + int(0.7 * needed)]
    assert not any(decides(evidence.prolonged(size)) for size in fewer)


def test_a_gated_run_counts_to_the_level_of_its_look_and_not_to_the_rules_alpha() -> None:
    """99 pairs without a flip exclude 3 points at 5 %; ten looks leave less for the last one."""
    assert pairs_to_go(FixedEvidence(PairCounts(98, 0, 0, 0)), RULE, 0.05, 0.05) == 1
    needed = pairs_to_go(planned(LOOKS, 10), RULE, 0.05, 0.05)
    assert needed is not None
    more = planned(tuple(round(size * (100 + needed) / 100) for size in LOOKS), 10)
    assert more.above(-0.03, 0.05)
    assert needed >= 10


@pytest.mark.parametrize("design", ["fixed", "sequential", "anytime"])
def test_every_design_prints_its_own_number(make_ledger: Any, design: Any) -> None:
    rules = GateRules(design=design, success=RULE, **({"looks": 5} if design == "sequential" else {}))
    base, new = make_ledger("base", ["+" * 20] * 4), make_ledger("new", ["+" * 20] * 4)
    more, total = number(reason(gate(base, new, rules), "success"))
    assert total == 80 + more
    enough = make_ledger("b2", ["+" * -(-total // 4)] * 4), make_ledger("n2", ["+" * -(-total // 4)] * 4)
    assert gate(*enough, rules).verdict.value == "PASS"
    short = make_ledger("b3", ["+" * (total // 5)] * 4), make_ledger("n3", ["+" * (total // 5)] * 4)
    assert gate(*short, rules).verdict.value == "INCONCLUSIVE"


def test_partial_credit_prints_its_number_too() -> None:
    from harness.gate.score import judge_score
    from harness.gate.stopping import PairOutcome, pair_table

    rules = GateRules(success=RULE, score=ScoreRule(margin=0.03))
    assert rules.score

    def judged(n: int) -> Any:
        table = pair_table([PairOutcome("all", True, True, 0.5, 0.5)] * n)
        return judge_score(table, rules, rules.score or ScoreRule(margin=0.03), 0.05, None, outlook=True)

    more, total = number(judged(60).reason)
    assert total == 60 + more
    assert judged(total).verdict.value == "PASS"
    assert judged(total - 5).verdict.value == "INCONCLUSIVE"


@pytest.mark.parametrize(("cluster", "unit"), [("task", "tasks"), ("init_state", "init states")])
def test_clusters_are_counted_in_what_is_sampled(make_ledger: Any, cluster: Any, unit: str) -> None:
    rules = GateRules(success=RULE, cluster=cluster)
    base, new = make_ledger("base", ["+" * 6] * 10), make_ledger("new", ["+" * 6] * 10)
    said = reason(gate(base, new, rules), "success")
    _, total = number(said)
    assert total == 99, "(1 - 0.03) ** 99 < 0.05, whatever an episode more of the same cluster says"
    assert f"More episodes of the same {unit} would not" in said
    clusters = Clusters(np.zeros(total, dtype=np.int64), np.full(total, 6))
    assert FixedEvidence(PairCounts(6 * total, 0, 0, 0), clusters).above(-0.03, 0.05)


def test_where_no_number_decides_it_is_said(make_ledger: Any) -> None:
    """A drop of exactly the margin is neither within it nor beyond it, however many pairs show it."""
    rules = GateRules(success=SuccessRule(margin=0.1, fail_when="beyond_margin"))
    base, new = make_ledger("base", ["+" * 40]), make_ledger("new", ["+" * 36 + "-" * 4])
    assert "not even 50,000 pairs decide" in reason(gate(base, new, rules), "success")


def test_a_cliff_asks_for_what_its_look_needs(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 8] * 13), make_ledger("new", ["+" * 8] * 13)
    counted = {}
    for design in ("fixed", "sequential"):
        rules = GateRules(design=design, success=RULE, per_task=TaskRule(cliff=0.2, min_pairs=5))
        counted[design] = int(re.findall(r"needs (\d+) pairs", reason(gate(base, new, rules), "per-task cliff"))[0])
    assert counted["sequential"] > counted["fixed"]


def test_a_comparison_has_one_number_for_one_question(make_ledger: Any) -> None:
    success = compare(make_ledger("base", ["+" * 100]), make_ledger("new", ["+" * 98 + "--"])).success[0]
    (line, *_) = comparison_lines(compare(make_ledger("b", ["+" * 100]), make_ledger("n", ["+" * 98 + "--"])))
    answered = re.findall(r"3\.0 points would take about ([\d,]+) pairs", line.detail)
    noted = re.findall(r"3 points need ([\d,]+) pairs", success_rows(success).note)
    assert answered == noted
    assert len(answered) == 1
