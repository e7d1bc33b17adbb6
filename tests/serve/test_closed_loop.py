"""Whole runs through openpi:// against a server of this project: the same episodes, whatever happens to the server."""

from __future__ import annotations

import json
import threading

import pytest

import harness
from harness.errors import PolicyError
from harness.policies.controls import RandomPolicy
from harness.policies.registry import make_policy
from harness.serve.sizing import BatchPlan
from harness.spec import Suite, parse_policy
from harness.spec.resolve import parse

pytestmark = pytest.mark.usefixtures("cluster")

RESULT = ["episode_key", "nfe", "outcome", "steps", "decisions", "clipped", "trajectory_sha256"]


def suite_of(policies, suite: str = "stub", **changes) -> Suite:
    data = {
        "name": "served",
        "description": "policies behind a websocket",
        "world": "stub",
        "tasks": [{"suite": suite, "tasks": [0, 1, 2], "init_states": 4}],
        "protocol": "stub",
        "policies": policies,
        **changes,
    }
    return parse(Suite, data, "test")


def remote(address, **options) -> dict:
    return {"kind": "openpi", "path": address.netloc, "label": "remote", "options": options}


def results(path, policy: str) -> list[dict]:
    episodes = harness.read(path).episodes.query("policy_id == @policy")[RESULT].astype(object)
    return sorted(episodes.to_dict("records"), key=lambda row: row["episode_key"])


def test_episodes_through_the_wire_are_those_of_one_process_and_their_times_are_told_apart(serve, tmp_path):
    with serve(RandomPolicy(), plan=BatchPlan(8, 0.002)) as serving:
        result = harness.run(suite_of(["random", remote(serving.address)]), out=tmp_path / "out", workers=2)
        # The driver has hung up after asking what is served, so only workers are clients.
        assert serving.service.clients == 3
    assert (result.done, result.errors) == (24, ())
    assert results(tmp_path / "out", "remote") == results(tmp_path / "out", "random")
    ledger = harness.read(tmp_path / "out")
    there = ledger.decisions.query("policy_id == 'remote'")
    here = ledger.decisions.query("policy_id == 'random'")
    assert (there[["queue_ms", "infer_ms", "transport_ms"]] >= 0).all(axis=None)
    assert here["transport_ms"].isna().all()
    assert set(there["hardware"]) == {"a robot's box"}
    assert '"served_policy":"random"' in ledger.runs["policies"].iloc[0]


def test_a_run_records_how_its_policies_were_batched_and_what_they_warn_of(tmp_path):
    """The policy servers inside a cluster, which choose their batches as `harness serve` does."""
    served = {"kind": "python", "path": "served_policies:Warns"}
    policies = [{**served, "label": "chosen"}, {**served, "label": "asked", "options": {"max_batch": 3}}, "noop"]
    said: list[str] = []
    suite = suite_of(policies, tasks=[{"suite": "stub", "tasks": [0], "init_states": 2}])
    result = harness.run(suite, out=tmp_path / "out", workers=2, on_message=said.append)
    assert (result.done, result.errors) == (6, ())
    ledger = harness.read(tmp_path / "out")
    (text,) = ledger.runs["policies"]
    records = json.loads(text)
    chosen = records["chosen"]["serving"]
    assert {"1", "2", "4", "8"} >= set(chosen["measured_ms"]) >= {"1", "2"}
    assert 1 <= chosen["max_batch"] <= 8
    assert records["asked"]["serving"]["max_batch"] == 3
    assert records["asked"]["provenance"] == {"revision": "abc"}
    assert records["noop"] == {"default_nfe": None, "chunk_length": 10, "replan_interval": 10}
    assert "warning: asked: The weights are random." in said
    assert ledger.decisions.query("policy_id == 'asked'")["batch_size"].max() <= 3
    assert (ledger.decisions.query("policy_id == 'asked'")["transport_ms"] > 0).all()


def test_a_server_that_is_started_again_costs_no_episode(serve, tmp_path):
    ready, stop = threading.Event(), threading.Event()
    where = []

    def servers():
        with serve(RandomPolicy()) as serving:
            where.append(serving.address)
            ready.set()
            while serving.service.decisions < 15 and not stop.is_set():
                stop.wait(0.005)
        stop.wait(0.5)
        with serve(RandomPolicy(), port=where[0].port) as serving:
            stop.wait()
            where.append(serving.service.decisions)

    thread = threading.Thread(target=servers)
    thread.start()
    try:
        ready.wait()
        suite = suite_of(["random", remote(where[0], reconnect_s=20)])
        result = harness.run(suite, out=tmp_path / "out", workers=2)
    finally:
        stop.set()
        thread.join()
    assert where[1] > 0
    assert (result.done, result.errors) == (24, ())
    assert results(tmp_path / "out", "remote") == results(tmp_path / "out", "random")


def test_a_server_that_is_gone_for_good_makes_errors_and_stops_the_run_and_none_is_a_failure(serve, tmp_path):
    ready, stop = threading.Event(), threading.Event()
    where = []

    def server():
        with serve(RandomPolicy()) as serving:
            where.append(serving.address)
            ready.set()
            while serving.service.decisions < 10 and not stop.is_set():
                stop.wait(0.002)

    thread = threading.Thread(target=server)
    thread.start()
    try:
        ready.wait()
        suite = suite_of([remote(where[0], reconnect_s=0.2, connect_s=2)])
        with pytest.raises(PolicyError, match=r"stayed away for 0.2 s, 3 times in a row.*--resume"):
            harness.run(suite, out=tmp_path / "out", workers=1)
    finally:
        stop.set()
        thread.join()
    assert harness.read(tmp_path / "out").runs["status"].tolist() == ["failed"]
    episodes = harness.read(tmp_path / "out").episodes
    errors = episodes[episodes["outcome"] == "error"]
    assert set(errors["error_type"]) <= {"PolicyServerLost", "PolicyServerDied"}
    assert len(errors) >= 1
    assert errors["success"].isna().all()
    with serve(RandomPolicy(), port=where[0].port):
        assert harness.run(suite, out=tmp_path / "out", workers=1, resume=True).errors == ()
    assert set(harness.read(tmp_path / "out").episodes["outcome"]) <= {"success", "timeout"}


def test_a_missing_server_is_named_before_a_cluster_is_started(tmp_path):
    with pytest.raises(PolicyError, match=r"No policy server answers at openpi://127.0.0.1:9 .*harness serve"):
        harness.run(suite_of(["openpi://127.0.0.1:9?connect_s=0.2"]), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["scripted", pytest.param("flow", marks=pytest.mark.slow)])
def test_libero_through_the_wire_is_libero_in_one_process(serve, tmp_path, text):
    """The expert keeps state per episode and reads object poses; `flow` reads frames and keyed noise."""
    pytest.importorskip("libero", reason="the extra `sim` is not installed")
    torch = pytest.importorskip("torch", reason="the extra `policies` is not installed")
    # As many threads as a run's policy servers have: sums split over threads differ in their last bits.
    torch.set_num_threads(1)
    with serve(make_policy(parse_policy(text)), plan=BatchPlan(1, 0.0)) as serving:
        suite = suite_of(
            [text, remote(serving.address)],
            world="libero",
            tasks=[{"suite": "libero_spatial", "tasks": [0], "init_states": 1}],
            protocol={"preset": "lerobot", "max_steps": {"libero_spatial": 30}},
            nfe=[2] if text == "flow" else [],
        )
        result = harness.run(suite, out=tmp_path / "out", workers=1)
    assert (result.done, result.errors) == (2, ())
    (here,), (there,) = results(tmp_path / "out", text), results(tmp_path / "out", "remote")
    assert here == there
    assert here["steps"] == 30
