"""Cost beside success: who stands on the Pareto front, and with which evidence others do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.analysis.summary import Summary
from harness.cli.app import invoke
from harness.ledger import LedgerWriter, read

MakeLedger = Callable[..., Path]
BOWLS = {"suite": "libero_spatial", "max_steps": 280}
PERTURBED = {"suite": "libero_spatial_swap", "max_steps": 280}


def probe(path: Path, policy: str, ms: float, nfe: int | None = None, parameter_bytes: int = 1000) -> str:
    writer = LedgerWriter(path)
    own = {"run_id": "p", "node_id": "n", "hardware": "h100", "policy_id": policy, "nfe": nfe, "batch_size": 1}
    rows = [{**own, "component": "e2e", "sample": k, "latency_ms": ms, "memory_bytes": 2_000_000} for k in range(20)]
    writer.append("latency", rows)
    parts = [{**own, "component": name, "parameter_bytes": parameter_bytes} for name in ("prefix", "denoise_step")]
    writer.append("counts", [*parts, {**own, "component": "e2e", "parameter_bytes": 11 * parameter_bytes}])
    writer.append("runs", [{"run_id": "p", "suite": "name: probe"}])
    return str(path)


def table(*paths: Any) -> pd.DataFrame:
    return Summary(read(*paths)).tiers.set_index("policy_id")


def test_a_slower_policy_that_solves_fewer_of_the_same_episodes_is_dominated(
    make_ledger: MakeLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        str(make_ledger("a", ["+" * 50] * 4, policy="fast", manifest=BOWLS)),
        str(make_ledger("b", ["+" * 40 + "-" * 10] * 4, policy="slow", manifest=BOWLS)),
        str(make_ledger("c", ["+" * 49 + "-"] * 4, policy="near", manifest=BOWLS)),
        probe(tmp_path / "pa", "fast", 10.0),
        probe(tmp_path / "pb", "slow", 20.0),
        probe(tmp_path / "pc", "near", 15.0),
    ]
    found = table(*paths)
    assert found["place"].to_dict() == {"fast": "front", "near": "behind", "slow": "dominated"}
    slow = found.loc["slow"]
    assert (slow["dominated_by"], slow["pairs"], slow["faster"]) == ("fast", 200, 2.0)
    assert slow["difference"] == pytest.approx(0.2)
    assert slow["difference_low"] > 0
    assert found.loc["near", "difference_low"] <= 0
    assert (slow["weights_bytes"], slow["memory_bytes"]) == (2000, 2_000_000)
    assert invoke(["report", *paths, "--markdown", "-"]) == 0
    out = capsys.readouterr().out
    assert "## Tiers: cost and success" in out
    assert "dominated: fast +20.0 points" in out
    assert invoke(["report", *paths, "--json", "-"]) == 0
    told = {row["policy_id"]: row for row in json.loads(capsys.readouterr().out)["tiers"]}
    assert {name: row["place"] for name, row in told.items()} == found["place"].to_dict()
    assert (told["slow"]["dominated_by"], told["slow"]["pairs"]) == ("fast", 200)
    assert told["fast"]["dominated_by"] is None


def test_a_slower_policy_that_solves_more_is_on_the_front(make_ledger: MakeLedger, tmp_path: Path) -> None:
    found = table(
        make_ledger("a", ["+" * 40 + "-" * 10] * 4, policy="fast"),
        make_ledger("b", ["+" * 50] * 4, policy="good"),
        probe(tmp_path / "pa", "fast", 10.0),
        probe(tmp_path / "pb", "good", 20.0),
    )
    assert set(found["place"]) == {"front"}


def test_policies_without_common_episodes_dominate_nobody(make_ledger: MakeLedger, tmp_path: Path) -> None:
    found = table(
        make_ledger("a", {0: "+" * 50}, policy="fast"),
        make_ledger("b", {1: "-" * 50}, policy="slow"),
        probe(tmp_path / "pa", "fast", 10.0),
        probe(tmp_path / "pb", "slow", 20.0),
    )
    assert set(found["place"]) == {"front"}


def test_the_drop_on_a_perturbed_suite_is_against_its_plain_one(make_ledger: MakeLedger, tmp_path: Path) -> None:
    found = table(
        make_ledger("a", ["+" * 9 + "-"] * 2, policy="p", manifest=BOWLS, checkpoint_sha256="x"),
        make_ledger("b", ["+" * 6 + "-" * 4] * 2, policy="p", manifest=PERTURBED, checkpoint_sha256="x"),
        probe(tmp_path / "pa", "p", 10.0),
    ).loc["p"]
    assert (found["rate"], found["perturbed_rate"], found["drop"]) == (0.9, 0.6, pytest.approx(0.3))
    assert found["suites"] == "libero_spatial 90.0 %"


def test_without_latency_there_are_no_tiers(make_ledger: MakeLedger, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_ledger("a", ["++"], policy="p")
    assert Summary(read(path)).tiers.empty
    assert invoke(["report", str(path)]) == 0
    assert "Tiers" not in capsys.readouterr().out
