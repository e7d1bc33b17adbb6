"""A sequential gate plans its looks over the episodes that were planned, not over those that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.gate import Verdict, gate
from harness.gate.early_stopping import key_rounds
from harness.ledger import LedgerWriter
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.spec.rules import GateRules, PairRule, SuccessRule

RULES = GateRules(design="sequential", looks=5, success=SuccessRule(margin=0.03))
SUITE = "name: mine\ndescription: d\nprotocol: lerobot\ntasks: [{suite: libero_spatial, init_states: STATES}]\n"


def planned(make_ledger: Any, name: str, outcomes: list[str], kept: set[str] | None = None, states: str = "20") -> Path:
    """A ledger whose runs record a suite; of its episodes only those with certain keys are there."""
    plain = make_ledger(f"{name}-plain", outcomes)
    out = plain.with_name(name)
    runs = [
        {**row, "suite": SUITE.replace("STATES", states), "status": "interrupted" if kept else "finished"}
        for row in read_rows(Location.of(plain), "runs")
    ]
    rows = [row for row in read_rows(Location.of(plain), "episodes") if kept is None or row["episode_key"] in kept]
    LedgerWriter(out).append("runs", runs)
    LedgerWriter(out).append("episodes", rows)
    return out


def rounds(make_ledger: Any, outcomes: list[str], looks: int) -> list[list[str]]:
    rows = read_rows(Location.of(make_ledger("whole", outcomes)), "episodes")
    return key_rounds({row["episode_key"]: (row["suite"], row["task_id"]) for row in rows}, looks)


def success(result: Any) -> Any:
    (found,) = (one for one in result.results if one.rule == "success")
    return found


@pytest.mark.parametrize("states", ["20", "all"])
def test_a_run_that_was_cut_off_is_weighed_at_the_looks_of_its_plan(make_ledger: Any, states: str) -> None:
    """120 pairs without a flip are enough for one look, and not for the second of five planned ones."""
    all_solved = ["+" * 20] * 15
    base = planned(make_ledger, "base", all_solved, states=states)
    first_two = {key for members in rounds(make_ledger, all_solved, 5)[:2] for key in members}
    cut = planned(make_ledger, "cut", all_solved, first_two, states=states)
    anyhow = RULES.model_copy(update={"pairs": PairRule(min_share=0.3)})
    found = success(gate(base, cut, anyhow))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "look 2 of 5 planned: 120 of 300 pairs" in found.reason
    whole = success(gate(base, planned(make_ledger, "new", all_solved, states=states), RULES))
    assert whole.verdict is Verdict.PASS
    assert "cut off" not in whole.reason


def test_looks_that_are_not_whole_are_not_weighed_and_it_is_said(make_ledger: Any) -> None:
    """Of a run that took task by task, no look has an equal part of every task."""
    all_solved = ["+" * 20] * 15
    base = planned(make_ledger, "base", all_solved)
    rows = read_rows(Location.of(base), "episodes")
    cut = planned(make_ledger, "cut", all_solved, {row["episode_key"] for row in rows if row["task_id"] < 8})
    found = success(gate(base, cut, RULES.model_copy(update={"pairs": PairRule(min_share=0.5)})))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "160 of 300 planned pairs are there, and 0 of 5 looks are complete" in found.reason
    assert "--resume" in found.reason


def test_without_a_recorded_suite_what_is_there_was_planned(make_ledger: Any) -> None:
    base, new = make_ledger("b", ["+" * 20] * 15), make_ledger("n", ["+" * 20] * 15)
    assert "of 300 pairs" in success(gate(base, new, RULES)).reason
