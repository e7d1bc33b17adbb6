"""A few rounds of the chaos benchmark: whatever happens, the ledger is that of a run to which nothing happened."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from bench_chaos import FAULTS, chaos

pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: small file systems")
@pytest.mark.parametrize("fault", ["driver killed", "disk full", "ledger removed", "two drivers", "clock jumps"])
def test_a_fault_in_the_middle_costs_time_and_nothing_else(fault: str) -> None:
    assert fault in FAULTS
    outcomes = chaos(1, seed=1, faults=[fault])
    assert [outcome for outcome in outcomes if not outcome.sound] == []
