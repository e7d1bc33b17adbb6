"""`harness nightly --rebase` from the command line: the stub world on a real Ray cluster, its protocol changed."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.cli.app import invoke
from harness.gate.baseline import current_baselines, read_baselines

pytestmark = pytest.mark.usefixtures("gate_cluster")

SUITE = """
name: nights
description: a hundred episodes of the stub world
world: stub
protocol: {max_steps: {stub: STEPS}, settle_steps: 0}
tasks: [{suite: stub, init_states: 10}]
"""
RULES = "name: strict\nsuccess: {margin: 0.05}\n"


def test_after_a_new_protocol_the_accepted_checkpoint_runs_again_as_the_new_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, rules, root = tmp_path / "nights.yaml", tmp_path / "rules.yaml", tmp_path / "nightly"
    rules.write_text(RULES)
    common = ["nightly", "--suite", str(suite), "--rules", str(rules), "--root", str(root), "--workers", "2"]
    policy = ["-p", "python:rerun_policies:good"]

    suite.write_text(SUITE.replace("STEPS", "30"))
    assert invoke([*common, *policy]) == 0
    suite.write_text(SUITE.replace("STEPS", "31"))
    assert invoke([*common, *policy]) == 64, "nights are never compared across protocols"
    told = " ".join(capsys.readouterr().err.split())
    assert "max_steps: 30 against 31" in told
    assert "--rebase" in told

    assert invoke([*common, "--rebase"]) == 0
    first, rebased = sorted(read_baselines(str(root)), key=lambda one: one.accepted_at)
    assert (first.note, rebased.note) == ("first night", f"rebased from {first.ledger}")
    assert first.checkpoint == rebased.checkpoint
    assert {one.ledger for one in current_baselines([first, rebased])} == {first.ledger, rebased.ledger}
    ledger = harness.read(root / rebased.ledger)
    assert ledger.manifest("stub")["max_steps"] == 31
    assert int(ledger.episodes["success"].sum()) == 100

    assert invoke([*common, *policy]) == 0, "the next night is judged against the rebased one"
    assert "PASS" in capsys.readouterr().out
