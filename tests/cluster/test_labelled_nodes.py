"""Ray nodes that say by a label what hardware they are: a real cluster of two, on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import harness

pytest.importorskip("ray")
SUITE = """
name: two
description: A stub suite that keeps two workers busy.
world: stub
protocol: stub
tasks: [{suite: stub, trials: 20}]
policies: [{kind: python, path: "stub_runs:Checkpointed", options: {marks: checkpoint}, label: own}]
"""

ON = """
name: on
description: A stub suite whose policy is served on one device and on another.
world: stub
protocol: stub
tasks: [{suite: stub, tasks: [0], init_states: 6}]
policies:
- {kind: python, path: "stub_runs:Served", label: own}
- {kind: noop, label: inside}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    here = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))))
        patch.setenv("RAY_AUTH_MODE", "disabled")
        made = Cluster(initialize_head=True, head_node_args={**here, "labels": {"hardware": "a100-sxm-80gb"}})
        made.add_node(**here, labels={"hardware": "dgx-spark-gb10"})
        yield made
        made.shutdown()


def run(cluster: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    """`harness run` as a user types it: this process has imported Ray already."""
    (folder / "two.yaml").write_text(SUITE)
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "statistics").write_text("5" * 64)
    return harness_cli("run", "two.yaml", "--out", "led", "--address", cluster.address, folder=folder)


def harness_cli(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command whose home has a token, as the first private cluster leaves one; this cluster asks for none."""
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text("a" * 64)
    variables = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"} | {"HOME": str(folder)}
    command = [sys.executable, "-c", "from harness.cli import main; main()", *arguments]
    return subprocess.run(command, env=variables, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_rows_name_the_hardware_that_nodes_are_labelled_with_and_nodes_of_one_host_apart(cluster, tmp_path) -> None:
    done = run(cluster, tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = harness.read(tmp_path / "led")
    nodes = ledger.nodes.set_index("hardware")["node_id"].to_dict()
    assert set(nodes) == {"a100-sxm-80gb", "dgx-spark-gb10"}
    assert len(set(nodes.values())) == 2
    assert max(nodes.values(), key=len) == f"{min(nodes.values(), key=len)}-2"
    rows = ledger.episodes.groupby("hardware")["node_id"].unique()
    assert {hardware: list(ids) for hardware, ids in rows.items()} == {name: [node] for name, node in nodes.items()}
    # Both are of one class, the machine's, so that there was nothing to compare.
    assert ledger.canaries.empty
    assert ledger.episodes["canary"].isna().all()


def test_one_policy_on_two_devices_is_two_policies_each_served_where_it_says(cluster, tmp_path) -> None:
    (tmp_path / "on.yaml").write_text(ON)
    command = ("run", "on.yaml", "--out", "led", "--address", cluster.address)
    done = harness_cli(*command, "--on", "a100-sxm-80gb,dgx-spark-gb10", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = harness.read(tmp_path / "led")
    assert ledger.episodes["policy_id"].value_counts().to_dict() == {
        "own on a100-sxm-80gb": 6,
        "own on dgx-spark-gb10": 6,
        "inside": 6,
    }
    served = ledger.decisions[ledger.decisions["policy_id"] != "inside"]
    assert served.groupby("policy_id")["hardware"].unique().map(list).to_dict() == {
        "own on a100-sxm-80gb": ["a100-sxm-80gb"],
        "own on dgx-spark-gb10": ["dgx-spark-gb10"],
    }


@pytest.mark.slow
def test_a_slow_nodes_last_episode_is_run_elsewhere_too_and_compared(cluster, tmp_path) -> None:
    policy = '{kind: python, path: "stub_runs:SleepsOnce", label: own, options: {marks: "."}}'
    suite = SUITE.replace("trials: 20", "tasks: [0, 1], init_states: 3")
    (tmp_path / "late.yaml").write_text(suite.partition("policies:")[0] + f"policies: [{policy}]\n")
    done = harness_cli("run", "late.yaml", "--out", "led", "--address", cluster.address, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = harness.read(tmp_path / "led")
    assert len(ledger.episodes) == 6
    assert not ledger.episodes.duplicated("episode_key").any()
    (twice,) = ledger.duplicates.to_dict("records")
    assert twice["equal"]
    assert twice["wall_s"] > 5 > twice["counted_wall_s"]
    assert {twice["hardware"], twice["counted_hardware"]} == {"a100-sxm-80gb", "dgx-spark-gb10"}
    assert "Episodes run on two nodes" in done.stdout


CANARIES = SUITE.replace("Checkpointed", "Drifts").replace("trials: 20", "tasks: [0, 1], init_states: 6")


@pytest.mark.parametrize("fate", ["label", pytest.param("quarantine", marks=pytest.mark.slow)])
def test_a_node_that_answers_its_canaries_otherwise_is_labelled_or_gets_nothing(cluster, tmp_path, fate) -> None:
    (tmp_path / "two.yaml").write_text(f"{CANARIES}canaries: {{outside: {fate}}}\n")
    command = ("run", "two.yaml", "--out", "led", "--address", cluster.address, "--canaries", "always")
    drifting = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "env_vars": {"STUB_DRIFT": "0.05"}}
    odd = cluster.add_node(**drifting, labels={"hardware": "jetson-orin-nano-8gb"})
    try:
        done = harness_cli(*command, folder=tmp_path)
    finally:
        cluster.remove_node(odd)
    assert done.returncode == 0, done.stderr
    ledger = harness.read(tmp_path / "led")
    checks = ledger.canaries
    assert checks["kind"].value_counts().to_dict() == {"episode": 6, "frame": 3, "decision": 3}
    outside = checks[~checks["within"].astype(bool)]
    assert outside[["hardware", "kind"]].to_numpy().tolist() == [["jetson-orin-nano-8gb", "decision"]]
    assert outside["difference"].iloc[0] == pytest.approx(0.05)
    assert checks[checks["kind"] == "episode"]["equal"].all()
    labels = ledger.episodes.groupby("hardware")["canary"].unique().map(list).to_dict()
    if fate == "label":
        assert labels.pop("jetson-orin-nano-8gb") == ["outside"]
        assert "episodes ran on machines outside the tolerance" in " ".join(ledger.notices)
    assert set(labels) == {"a100-sxm-80gb", "dgx-spark-gb10"}
    assert sorted(label for each in labels.values() for label in each) == ["reference", "within"]
    assert "Canaries" in done.stdout


def test_hardware_that_no_node_is_ends_the_run_before_it_begins(cluster, tmp_path) -> None:
    (tmp_path / "on.yaml").write_text(ON)
    command = ("run", "on.yaml", "--out", "led", "--address", cluster.address)
    done = harness_cli(*command, "--on", "h200", folder=tmp_path)
    told = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert "'own' is to run on h200, but no node with a CPU is one" in told
    assert "is a100-sxm-80gb" in told
    assert not list((tmp_path / "led").rglob("*.parquet"))


def test_a_label_that_is_no_profile_is_refused_with_its_node_and_the_nearest_name(cluster, tmp_path) -> None:
    stranger = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1", labels={"hardware": "a100-sxm-80g"})
    try:
        done = run(cluster, tmp_path)
    finally:
        cluster.remove_node(stranger)
    told = " ".join(done.stderr.split())
    assert done.returncode == 64, told
    assert "is labelled hardware=a100-sxm-80g." in told
    assert "a100-sxm-80gb" in told.partition("a100-sxm-80g.")[2]


def test_the_status_of_a_cluster_tells_what_each_node_is_and_cannot_do(cluster, tmp_path) -> None:
    idle = cluster.add_node(num_cpus=0, node_ip_address="127.0.0.1")
    try:
        done = harness_cli("cluster", "status", "--address", cluster.address, "--json", folder=tmp_path)
    finally:
        cluster.remove_node(idle)
    assert done.returncode == 0, done.stderr
    nodes = {node["hardware"]: node for node in json.loads(done.stdout)["nodes"]}
    a100, spark = nodes["a100-sxm-80gb"], nodes["dgx-spark-gb10"]
    assert len({node["node_id"] for node in nodes.values()}) == 3
    assert a100["versions"]["ray"] == spark["versions"]["ray"]
    assert all(abs(node["clock_s"]) <= node["clock_within_s"] + 0.05 for node in nodes.values())
    assert [node["cannot"] for node in json.loads(done.stdout)["nodes"] if not node["cores"]] == [
        ["run anything: it has no CPU for Ray (`ray start --num-cpus`)"]
    ]
