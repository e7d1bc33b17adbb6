"""What planned looks save: a replay stops early on a clear ledger, and is as large as what one look would need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

import sequential_savings  # noqa: E402


def replayed(base: Path, new: Path, base_nfe: int | None = None) -> list[dict[str, Any]]:
    return list(sequential_savings.rows(new, base, ("flow", base_nfe), margin=0.03, looks=10, power=0.8, draws=10))


def test_a_mild_drop_is_replayed_at_the_size_of_a_fixed_design(make_ledger: Any) -> None:
    """Ten points of 300 pairs: some 60 pairs show it with 80 %, and looks on the way need fewer than all of them."""
    base = make_ledger("base", ["+" * 50] * 6, policy="flow", nfe=1)
    new = make_ledger("new", ["+" * 45 + "-" * 5] * 6, policy="noisy", nfe=1)
    (row,) = replayed(base, new)
    assert (row["pairs"], row["rules"], row["points"]) == (300, "success", pytest.approx(-10.0))
    assert 40 < row["plan"] < 100
    assert 0.3 <= row["fixed FAIL"] <= 1
    assert row["FAIL"] >= 0.3
    assert 0.1 < row["where it FAILs"] < 0.95


def test_no_drop_is_replayed_with_every_pair_and_passes_early(make_ledger: Any) -> None:
    base = make_ledger("base", ["+" * 50] * 6, policy="flow", nfe=1)
    (row,) = replayed(base, make_ledger("new", ["+" * 50] * 6, policy="noisy", nfe=1))
    assert (row["plan"], row["PASS"], row["fixed PASS"]) == (300, 1.0, 1.0)
    assert 0.1 <= row["pairs used"] <= 0.65


def test_the_base_is_no_candidate_of_its_own_ledger_and_may_have_another_nfe(make_ledger: Any) -> None:
    both = make_ledger("both", ["+" * 5] * 2, policy="flow", nfe=1)
    assert replayed(both, both) == []
    ten = make_ledger("ten", ["+" * 5] * 2, policy="flow", nfe=10)
    assert [row["candidate"] for row in replayed(both, ten, base_nfe=1)] == ["flow NFE 10"]
