"""A run with quantisation as an axis: rows of one policy, quantised and not, pair episode by episode."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.cli.app import invoke

pytest.importorskip("torchao")

SUITE = """
name: quantised
description: two episodes of the stub world
world: stub
protocol: {max_steps: {stub: 20}, settle_steps: 0}
tasks: [{suite: stub, tasks: [0], init_states: 2}]
"""


@pytest.mark.usefixtures("cluster")
def test_quantised_and_unquantised_episodes_pair_by_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, out = tmp_path / "quantised.yaml", tmp_path / "out"
    suite.write_text(SUITE)
    policy = "flow?weights=random&device=cpu"
    argv = ["run", str(suite), "--policy", policy, "--nfe", "1", "--quantize", "none,int8", "--out", str(out)]
    assert invoke([*argv, "--workers", "1"]) == 0
    rows = harness.read(out).episodes
    keys = rows.groupby("policy_id", observed=True)["episode_key"].apply(set)
    assert set(keys.index) == {policy, f"{policy}&quantize=int8"}
    assert keys.iloc[0] == keys.iloc[1]
    assert rows.groupby("policy_id", observed=True)["checkpoint_sha256"].first().nunique() == 2
    sides = ["--base-policy", policy, "--policy", f"{policy}&quantize=int8"]
    assert invoke(["compare", str(out), str(out), *sides]) == 0
    assert "2 pairs" in capsys.readouterr().out.replace("2 paired", "2 pairs")
    capsys.readouterr()
    assert invoke([*argv, "--resume", "--workers", "1"]) == 0
    assert len(harness.read(out).episodes) == 4
