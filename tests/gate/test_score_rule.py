"""The rule about partial credit: it notices what success does not show yet, and says when it cannot know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.analysis.paired.compare import compare
from harness.errors import SpecError
from harness.gate import Verdict, gate
from harness.gate.stopping import PairOutcome, decide_look, pair_table
from harness.ledger import LedgerWriter
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.report.gate.tables import success_rows
from harness.spec.resolve import parse
from harness.spec.rules import GateRules, ScoreRule, SuccessRule

RULES = GateRules(success=SuccessRule(margin=0.1), score=ScoreRule(margin=0.1))


def credited(make_ledger: Any, name: str, stages: str) -> Any:
    """A ledger of one-goal episodes: "+" solved; a failure came to "o"ver the target, to a "g"rasp, or "n"owhere."""
    path = make_ledger(f"{name}-plain", ["".join("+" if one == "+" else "!" if one == "!" else "-" for one in stages)])
    names = {"o": "over_target", "g": "grasped", "n": "none", "+": "none", "!": None}
    rows = [
        {**row, "goals": None if one == "!" else 1, "goals_held_best": int(one == "+"), "stage": names[one]}
        for row, one in zip(read_rows(Location.of(path), "episodes"), stages, strict=True)
    ]
    out = path.with_name(name)
    for table, content in (("runs", read_rows(Location.of(path), "runs")), ("episodes", rows)):
        LedgerWriter(out).append(table, content)
    return out


def score(result: Any) -> Any:
    (found,) = (one for one in result.results if one.rule == "score")
    return found


def test_a_drop_shows_in_the_score_while_success_is_equal(make_ledger: Any) -> None:
    base = credited(make_ledger, "base", "+" * 60 + "o" * 40)
    worse = credited(make_ledger, "worse", "+" * 60 + "n" * 40)
    result = gate(base, worse, RULES)
    assert {one.rule: one.verdict for one in result.results}["success"] is Verdict.PASS
    assert score(result).verdict is Verdict.FAIL
    assert "40 came less far and 0 further" in score(result).reason
    assert result.verdict is Verdict.FAIL
    assert score(gate(worse, base, RULES)).verdict is Verdict.PASS
    compared = compare(base, worse).success[0]
    assert compared.score is not None
    assert (compared.score.base, compared.score.candidate) == pytest.approx((0.9, 0.6))
    assert "mean score 0.900 → 0.600" in success_rows(compared).note


def test_equal_scores_pass_and_few_pairs_decide_nothing(make_ledger: Any) -> None:
    base, same = (credited(make_ledger, name, "+" * 60 + "o" * 40) for name in ("base", "same"))
    assert score(gate(base, same, RULES)).verdict is Verdict.PASS
    few, same_few = (credited(make_ledger, name, "+" * 20 + "o" * 5) for name in ("few", "same-few"))
    assert score(gate(few, same_few, RULES)).verdict is Verdict.INCONCLUSIVE


def test_a_base_that_scores_next_to_nothing_is_not_passed(make_ledger: Any) -> None:
    old, new = (credited(make_ledger, name, "n" * 200) for name in ("old", "new"))
    found = score(gate(old, new, RULES))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "within the margin of 0.1" in found.reason


def test_ledgers_without_partial_credit_are_inconclusive_and_say_why(make_ledger: Any) -> None:
    old, new = make_ledger("old", ["+" * 100]), credited(make_ledger, "new", "+" * 100)
    found = score(gate(old, new, RULES))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "ledgers of before" in found.reason


def test_errors_that_would_decide_it_leave_it_undecided(make_ledger: Any) -> None:
    base = credited(make_ledger, "base", "+" * 100)
    erring = credited(make_ledger, "erring", "+" * 80 + "!" * 20)
    found = score(gate(base, erring, RULES))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "Infrastructure errors decide it" in found.reason


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"score": {"margin": 0.1, "design": "sequential"}}, "plans no looks"),
        ({"score": {"margin": 0.1}, "cluster": "task"}, "single pairs"),
        ({"design": "sequential", "floor": {"min_rate": 0.5}}, "score rule"),
    ],
)
def test_rules_that_cannot_be_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(GateRules, rules, "rules")


def planned(base: np.ndarray, new: np.ndarray, looks: int) -> Any:
    pairs = [PairOutcome("all", bool(b == 1), bool(c == 1), float(b), float(c)) for b, c in zip(base, new, strict=True)]
    size = len(pairs) // looks
    return pair_table(pairs, np.repeat(np.arange(looks), size).tolist(), np.full((looks, 1), size), ["all"])


def test_a_gated_run_stops_as_soon_as_partial_credit_decides() -> None:
    rules = GateRules(design="sequential", looks=5, score=ScoreRule(margin=0.05))
    base = np.where(np.arange(500) % 5 < 3, 1.0, 0.75)
    worse = np.where(np.arange(500) % 5 < 3, 1.0, 0.25)
    dropped = decide_look(planned(base, worse, 5), rules, 5)
    assert (dropped.verdict, dropped.stop, dropped.look) == (Verdict.FAIL, True, 1)
    assert "Group-sequential, look 1 of 5 planned: 100 of 500 pairs" in dropped.reason
    equal = decide_look(planned(base, base, 5), rules, 5)
    assert (equal.verdict, equal.look) == (Verdict.PASS, 1)


@pytest.mark.parametrize("design", ["sequential", "anytime"])
def test_false_alarms_of_a_planned_or_open_design_are_rare(design: str) -> None:
    """Nothing changed, thirty nights of 200 pairs, alpha 20 %: about six may alarm."""
    rng = np.random.default_rng(5)
    rules = GateRules(design="sequential", looks=5, alpha=0.2, score=ScoreRule(margin=0.01, design=design))
    alarms = 0
    for _ in range(30):
        base, new = rng.choice([0.0, 0.25, 0.75, 1.0], size=(2, 200), p=[0.1, 0.1, 0.1, 0.7])
        alarms += decide_look(planned(base, new, 5), rules, 5).verdict is Verdict.FAIL
    assert alarms <= 11
