"""No verb warns of what a user cannot act on: ledgers whose columns are empty, hold one sample, or are all equal."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from harness.ledger import LedgerWriter

COMMANDS = """
import sys, warnings
from harness.cli.app import invoke
warnings.simplefilter("default")
for line in sys.argv[1].split(";"):
    sys.stderr.write("$ " + line + "\\n")
    invoke(line.split())
"""
COMPONENTS = ("e2e", "preprocess", "prefix", "denoise_step", "postprocess")


def latency(n: int, value: float | None, **columns: Any) -> list[dict[str, Any]]:
    """`n` samples of every component, all of one value; what is not measured is null."""
    row = {"run_id": "r", "node_id": "n", "hardware": "cpu", "policy_id": "pi", "dtype": "float32", "batch_size": 1,
           "started_at": datetime(2026, 3, 1, tzinfo=UTC), "latency_ms": value, **columns}  # fmt: skip
    return [
        {**row, "nfe": nfe, "component": component, "sample": sample}
        for nfe in (1, 10)
        for component in COMPONENTS
        for sample in range(n)
    ]


@pytest.fixture
def sparse(make_ledger: Any, tmp_path: Path) -> list[str]:
    """Ledgers of which columns are empty, hold one sample, or are all equal."""
    shared = {"sm_clock_mhz": None, "power_w": None, "temperature_c": None}
    ledgers = {
        "none": make_ledger("none", ["!!", "!!"]),
        "one": make_ledger("one", ["+"], latency=latency(1, 5.0, **shared)),
        "equal": make_ledger("equal", ["++++", "++++"], latency=latency(30, 5.0, power_w=0.0, sm_clock_mhz=0.0)),
        "zero": make_ledger("zero", ["----", "----"], latency=latency(30, 0.0, **shared)),
    }
    LedgerWriter(tmp_path / "probe").append("latency", latency(1, 5.0, **shared))
    return [*map(str, ledgers.values()), str(tmp_path / "probe")]


def test_no_verb_warns_of_its_own_arithmetic(sparse: list[str], tmp_path: Path) -> None:
    none, one, equal, zero, probe = sparse
    lines = [
        *(f"report {ledger}" for ledger in (none, one, equal, probe)),
        f"report {zero} --html {tmp_path}/zero.html",
        *(f"prefix {ledger}" for ledger in (zero, probe)),
        *(f"compare {base} {other}" for base, other in ((none, one), (equal, zero))),
        *(f"gate {base} {other}" for base, other in ((one, equal), (equal, zero))),
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, ";".join(lines)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stderr.count("$ ") == len(lines), done.stderr
    warned = [line for line in done.stderr.splitlines() if "Warning" in line or "Traceback" in line]
    assert not warned, done.stderr
