"""What planned looks would have saved: a replay stops early on a clear ledger, and says what the whole of it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import sequential_savings  # noqa: E402


@pytest.mark.parametrize(("worse", "verdict", "most"), [(10, "FAIL", 0.5), (0, "PASS", 0.65)])
def test_a_clear_ledger_is_decided_early_in_every_order(
    make_ledger: Any, worse: int, verdict: str, most: float
) -> None:
    base = make_ledger("base", ["+" * 50] * 6, policy="flow", nfe=1)
    new = make_ledger("new", ["+" * (50 - worse) + "-" * worse] * 6, policy="noisy", nfe=1)
    (row,) = sequential_savings.rows(new, base, "flow", 0.03, 10, 5, 0)
    assert (row["pairs"], row["rules"], row["points"]) == (300, "success", pytest.approx(-2.0 * worse))
    assert row["fixed"] == verdict
    assert row[verdict] == 1.0
    assert 0.1 <= row["pairs used"] <= most


def test_the_base_is_no_candidate_of_its_own_ledger(make_ledger: Any) -> None:
    both = make_ledger("both", ["+" * 5] * 2, policy="flow", nfe=1)
    assert list(sequential_savings.rows(both, both, "flow", 0.03, 10, 5, 0)) == []
