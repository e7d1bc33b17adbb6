"""Gated runs and attribution on real LIBERO: the scripted expert is the baseline, a policy at rest the candidate."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.cli.app import invoke
from harness.gate.early_stopping import read_stop_record

pytestmark = [pytest.mark.usefixtures("gate_cluster"), pytest.mark.slow, pytest.mark.timeout(1800)]

SUITE = """
name: libero_gate
description: tasks of libero_spatial, small frames
protocol: {{resolution: 64, max_steps: {{libero_spatial: 200}}}}
tasks: [{{suite: libero_spatial, tasks: {tasks}, init_states: {init_states}}}]
policies: [{policy}]
"""


def write_suite(path: Path, policy: str, tasks: list[int], init_states: int) -> str:
    path.write_text(SUITE.format(policy=policy, tasks=tasks, init_states=init_states))
    return str(path)


def test_a_candidate_that_does_nothing_fails_before_half_of_its_episodes_ran(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "candidate"
    scripted = write_suite(tmp_path / "scripted.yaml", "scripted", [0, 4], 50)
    noop = write_suite(tmp_path / "noop.yaml", "noop", [0, 4], 50)
    assert invoke(["run", scripted, "--out", str(base), "--workers", "2"]) == 0
    gated = ["--gate-against", str(base), "--rules", "sequential"]
    assert invoke(["run", noop, "--out", str(out), "--workers", "2", *gated]) == 1
    assert len(harness.read(base).episodes) == 100
    assert len(harness.read(out).episodes) < 75
    record = read_stop_record(out)
    assert record is not None
    assert record["verdict"] == "FAIL"


def test_attribution_reruns_the_flipped_episodes_and_blames_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledgers = [tmp_path / "base", tmp_path / "candidate"]
    for ledger, policy in zip(ledgers, ("scripted", "noop"), strict=True):
        suite = write_suite(tmp_path / f"{policy}.yaml", policy, [0], 24)
        assert invoke(["run", suite, "--out", str(ledger), "--workers", "2"]) == 0
    reruns = tmp_path / "reruns"
    options = ["--attribute", "--out", str(reruns), "--workers", "2"]
    assert invoke(["gate", *map(str, ledgers), *options]) == 1
    assert "checkpoint: Of" in capsys.readouterr().out
    counts = {path.name: len(harness.read(path).episodes) for path in reruns.iterdir()}
    assert set(counts.values()) == {24}
