"""A gate whose limits are a device's: the same checkpoint, NFE and quantisation there, or none of it counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.app import invoke
from harness.errors import EXIT_FAILED, EXIT_USAGE, UsageError
from harness.gate import GateResult, Verdict, gate
from harness.ledger import LedgerWriter
from harness.spec.rules import load_rules

WEIGHTS = "sha-new"
OUTCOMES = ["+" * 48 + "--"] * 10
RULES = load_rules("robot_budget")


def on_device(
    path: Path,
    *,
    median: float = 60.0,
    weights: str | None = WEIGHTS,
    quantize: str | None = None,
    nfe: int = 1,
    memory_gib: float = 4.0,
    joules: float | None = 1.0,
) -> Path:
    """Five launches of a probe on an Orin Nano."""
    writer = LedgerWriter(path)
    record = {"identity": {"weights": weights}} if weights else {"warnings": ["none"]}
    record |= {"provenance": {"quantize": quantize}} if quantize else {}
    run = {"run_id": "probe", "suite": "name: probe", "protocol": "{}", "status": "finished"}
    writer.append("runs", [{**run, "policies": json.dumps({"lerobot:orin": record})}])
    row = {"run_id": "probe", "node_id": "orin", "hardware": "jetson-orin-nano-8gb", "policy_id": "lerobot:orin"}
    row |= {"nfe": nfe, "batch_size": 1, "component": "e2e", "memory_bytes": int(memory_gib * 2**30)}
    rng = np.random.default_rng(0)
    rows = [
        {**row, "launch": launch, "sample": n, "latency_ms": float(ms), "energy_j": joules}
        for launch in range(5)
        for n, ms in enumerate(median * np.exp(0.02 * rng.standard_normal(400)))
    ]
    writer.append("latency", rows)
    return path


@pytest.fixture
def sides(make_ledger: Any) -> tuple[Path, Path]:
    # On the A100 the candidate is slow and large: none of that may count.
    slow = [{"hardware": "a100", "nfe": 1, "component": "e2e", "batch_size": 1, "sample": n} for n in range(200)]
    latency = [{**row, "launch": 0, "latency_ms": 900.0, "memory_bytes": 60 * 2**30} for row in slow]
    return make_ledger("base", OUTCOMES, nfe=10), make_ledger("new", OUTCOMES, nfe=1, latency=latency)


def verdicts(result: GateResult) -> dict[str, Verdict]:
    return {found.rule: found.verdict for found in result.results}


def test_success_comes_from_the_rollouts_and_limits_from_the_device(sides: tuple[Path, Path], tmp_path: Path) -> None:
    result = gate(*sides, RULES, device=on_device(tmp_path / "orin"))
    assert result.verdict is Verdict.PASS, result.results
    assert {"success", "budget e2e p99", "memory", "energy", "same policy on device"} <= set(verdicts(result))
    alone = gate(*sides, RULES)
    assert verdicts(alone)["memory"] is Verdict.FAIL
    assert verdicts(alone)["energy"] is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("there", "rule", "verdict"),
    [
        ({"median": 130.0}, "budget e2e p99", Verdict.FAIL),
        ({"median": 95.4}, "budget e2e p99", Verdict.INCONCLUSIVE),
        ({"memory_gib": 6.5}, "memory", Verdict.FAIL),
        ({"joules": 2.0}, "energy", Verdict.FAIL),
        ({"joules": None}, "energy", Verdict.INCONCLUSIVE),
    ],
)
def test_each_limit_of_the_device_decides(
    sides: tuple[Path, Path], tmp_path: Path, there: dict[str, Any], rule: str, verdict: Verdict
) -> None:
    result = gate(*sides, RULES, device=on_device(tmp_path / "orin", **there))
    assert verdicts(result)[rule] is verdict
    assert result.verdict is verdict


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ({"weights": "another"}, r"weights another, quantisation none\): differs in checkpoint"),
        ({"nfe": 10}, r"NFE 10 .*: differs in NFE"),
        ({"quantize": "int8"}, r"quantisation int8\): differs in quantisation"),
        ({"weights": "another", "nfe": 2}, "differs in checkpoint and NFE"),
        ({"weights": None}, r"weights unknown.*differs in checkpoint"),
    ],
)
def test_another_policy_on_the_device_is_refused_by_what_differs(
    sides: tuple[Path, Path], tmp_path: Path, there: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        gate(*sides, RULES, device=on_device(tmp_path / "orin", **there))


def test_the_command_ends_with_one_verdict(
    sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = map(str, sides)
    argv = ["gate", base, new, "--rules", "robot_budget", "--device-ledger"]
    assert invoke([*argv, str(on_device(tmp_path / "orin"))]) == 0
    assert "same policy on device" in capsys.readouterr().out
    assert invoke([*argv, str(on_device(tmp_path / "slow", median=200.0))]) == EXIT_FAILED
    assert invoke([*argv, str(on_device(tmp_path / "other", weights="another"))]) == EXIT_USAGE
