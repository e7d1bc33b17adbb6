"""Whole runs of the stub world on a real Ray cluster."""

from __future__ import annotations

from collections import Counter

import pytest
from stub_runs import python_policy, stub_suite

import harness
from harness.analysis import worker_time
from harness.analysis.timing import WORKER_PARTS
from harness.cluster import controller
from harness.errors import NodeError, PolicyError

pytestmark = pytest.mark.usefixtures("cluster")

IDENTITY = ["policy_id", "nfe", "suite", "task_id", "init_state_id", "trial", "episode_key"]
RESULT = [*IDENTITY, "outcome", "steps", "decisions", "clipped", "trajectory_sha256"]


def results(path) -> list[tuple]:
    """What must not depend on workers, order or luck."""
    frame = harness.read(path).episodes[RESULT].astype(object)
    return sorted(frame.itertuples(index=False, name=None), key=str)


def attempts(path) -> list[int]:
    """Attempt of every row of the ledger, retried ones included."""
    from harness.ledger import read

    episodes = read(path, all_attempts=True).episodes
    assert not episodes.duplicated(IDENTITY).any()
    return episodes["attempt"].tolist()


def test_a_run_leaves_one_row_per_unit_and_says_what_it_did(tmp_path):
    seen = []
    suite = stub_suite()
    result = harness.run(suite, out=tmp_path / "out", workers=2, on_progress=seen.append)
    ledger = harness.read(tmp_path / "out")
    assert (result.planned, result.done, result.skipped, result.interrupted) == (24, 24, 0, False)
    assert (result.errors, result.warnings) == ((), ())
    assert dict(result.outcomes) == {**Counter(ledger.episodes["outcome"]), "error": 0}
    assert attempts(tmp_path / "out") == [1] * 24
    assert ledger.decisions.groupby(["policy_id", "episode_key"]).size().sum() == ledger.episodes["decisions"].sum()
    assert set(ledger.episodes["task"]) == {"task_0", "task_1", "task_2"}
    assert set(ledger.episodes["node_id"]) == set(ledger.nodes["node_id"])
    assert ledger.runs["status"].tolist() == ["finished"]
    assert ledger.manifest("stub")["renderer"] == "none"
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1].per_policy["noop", None].done == 12
    (time,) = worker_time(ledger.episodes).to_dict("records")
    assert time["workers"] == result.workers == 2
    assert ledger.episodes.groupby("worker")["startup_s"].apply(lambda values: (values > 0).sum()).tolist() == [1, 1]
    assert sum(time[f"{part}_s"] for part in WORKER_PARTS) == pytest.approx(time["worker_s"], rel=1e-3)
    assert ledger.runs["started_at"].min() < ledger.episodes["started_at"].min()


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    suite = stub_suite(tasks=[{"suite": "stub", "tasks": [0, 3, 7], "init_states": 5, "trials": 2}])
    for workers in (1, 3):
        harness.run(suite, out=tmp_path / str(workers), workers=workers)
    assert results(tmp_path / "1") == results(tmp_path / "3")
    assert len(results(tmp_path / "1")) == 60


def test_one_slow_episode_delays_nobody(tmp_path):
    slow = {"suite": "stub_slow", "tasks": [0], "init_states": 3}
    quick = {"suite": "stub", "init_states": 2}
    protocol = {"preset": "stub", "max_steps": {"stub": 50, "stub_slow": 150}}
    suite = stub_suite(tasks=[slow, quick], protocol=protocol, policies=["noop"])
    harness.run(suite, out=tmp_path / "out", workers=2)
    episodes = harness.read(tmp_path / "out").episodes.sort_values("started_at")
    first = episodes[episodes["suite"] == "stub_slow"].iloc[0]
    others = episodes[episodes["suite"] == "stub"]
    assert first["wall_s"] > 3
    # The other worker did everything else while the first was at its first episode.
    assert (others["started_at"] - first["started_at"]).dt.total_seconds().max() < first["wall_s"]


def test_workers_are_never_idle_while_there_is_work(tmp_path):
    suite = stub_suite("stub_slow", tasks=[{"suite": "stub_slow", "init_states": 1}], policies=["noop"])
    result = harness.run(suite, out=tmp_path / "out", workers=2)
    worked = harness.read(tmp_path / "out").episodes["wall_s"].sum()
    assert worked > 9
    assert result.rollout_s < 0.75 * worked


def test_a_worker_killed_mid_run_loses_nothing_and_repeats_nothing(tmp_path):
    policy = python_policy("KillsItsProcessOnce", "killer", marks=str(tmp_path))
    result = harness.run(stub_suite(policies=[policy, "noop"]), out=tmp_path / "out", workers=2)
    assert (result.done, result.errors) == (24, ())
    assert (tmp_path / "killed").exists()
    assert len(attempts(tmp_path / "out")) == 24
    harness.run(stub_suite(policies=[python_policy("Steady", "killer"), "noop"]), out=tmp_path / "calm", workers=1)
    assert results(tmp_path / "out") == results(tmp_path / "calm")


def test_an_episode_that_always_kills_its_worker_is_an_error_and_the_others_are_not(tmp_path):
    policy = python_policy("AlwaysKillsOnTaskOne", "killer")
    suite = stub_suite(policies=[policy], tasks=[{"suite": "stub", "tasks": [0, 1], "init_states": 2}], max_attempts=2)
    result = harness.run(suite, out=tmp_path / "out", workers=2)
    episodes = harness.read(tmp_path / "out").episodes
    assert result.outcomes == {"success": 2, "timeout": 0, "error": 2}
    errors = episodes[episodes["outcome"] == "error"]
    assert set(errors["task_id"]) == {1}
    assert set(errors["error_type"]) == {"WorkerDied"}
    assert set(errors["attempt"]) == {2}
    assert "2 × WorkerDied" in result.errors[0]


def test_a_run_whose_workers_all_die_is_given_up_with_the_reason(tmp_path):
    suite = stub_suite(policies=[python_policy("AlwaysKills", "killer")], max_attempts=1)
    with pytest.raises(NodeError, match=r"rollout workers in a row were lost .* process of the rollout worker died"):
        harness.run(suite, out=tmp_path / "out", workers=1)
    assert harness.read(tmp_path / "out").runs["status"].tolist() == ["failed"]


def test_a_policy_that_raises_is_recorded_at_once_and_named(tmp_path):
    result = harness.run(stub_suite(policies=[python_policy("RaisesOnTaskOne", "sick")]), out=tmp_path / "out")
    errors = harness.read(tmp_path / "out").episodes.query("outcome == 'error'")
    assert set(errors["error_type"]) == {"PolicyRaised"}
    assert set(errors["task_id"]) == {1}
    assert set(errors["attempt"]) == {1}
    assert "ValueError: no such bowl" in result.errors[0]
    assert result.outcomes["success"] == 8


def test_a_policy_that_hangs_costs_its_limit_and_its_worker_goes_on(tmp_path):
    suite = stub_suite(
        policies=[python_policy("HangsOnTaskOne", "hang")],
        tasks=[{"suite": "stub", "tasks": [0, 1], "init_states": 2}],
        limits={"decision_s": 0.3},
        max_attempts=2,
    )
    result = harness.run(suite, out=tmp_path / "out", workers=1)
    errors = harness.read(tmp_path / "out").episodes.query("outcome == 'error'")
    assert set(errors["error_type"]) == {"PolicyTimeout"}
    assert result.outcomes == {"success": 2, "timeout": 0, "error": 2}
    assert result.workers == 1


def test_a_hang_that_no_signal_reaches_ends_with_its_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(controller, "LEASE_GRACE_S", 1.0)
    suite = stub_suite(
        policies=[python_policy("HangsBeyondSignals", "hang", marks=str(tmp_path))],
        tasks=[{"suite": "stub", "tasks": [0, 1], "init_states": 2}],
        limits={"decision_s": 0.5, "episode_s": 2.0},
    )
    result = harness.run(suite, out=tmp_path / "out", workers=1)
    assert result.outcomes == {"success": 4, "timeout": 0, "error": 0}
    # The one that hung ran alone, so that it alone is at its second attempt.
    assert sorted(attempts(tmp_path / "out")) == [1, 1, 1, 2]


def test_a_served_policy_decides_in_batches_and_gives_every_worker_the_same(tmp_path):
    suite = stub_suite(policies=[python_policy("Served", "served")], nfe=[1, 4])
    for workers in (1, 3):
        result = harness.run(suite, out=tmp_path / str(workers), workers=workers)
        assert (result.done, result.errors) == (24, ())
    assert results(tmp_path / "1") == results(tmp_path / "3")
    ledger = harness.read(tmp_path / "3")
    assert set(ledger.episodes["nfe"]) == {1, 4}
    assert ledger.decisions["batch_size"].max() > 1
    assert (ledger.decisions["infer_ms"] >= 2).all()
    assert set(harness.read(tmp_path / "1").decisions["batch_size"]) == {1}


@pytest.mark.parametrize("factory", ["ServerDiesOnce", "ServerHangsOnce"])
def test_a_server_that_dies_or_hangs_is_started_again(tmp_path, factory):
    policy = python_policy(factory, "served", marks=str(tmp_path))
    suite = stub_suite(policies=[policy], limits={"decision_s": 5.0}, nfe=[4])
    result = harness.run(suite, out=tmp_path / "out", workers=2)
    assert (result.done, result.errors) == (12, ())
    assert max(attempts(tmp_path / "out")) == 2


def test_an_observation_that_a_server_chokes_on_harms_no_other_episode(tmp_path):
    suite = stub_suite(policies=[python_policy("ServerRaisesForTaskOne", "served")], nfe=[4])
    harness.run(suite, out=tmp_path / "out", workers=3)
    errors = harness.read(tmp_path / "out").episodes.query("outcome == 'error'")
    assert set(errors["task_id"]) == {1}
    assert len(errors) == 4


def test_a_policy_that_cannot_be_loaded_ends_the_run_before_it_began(tmp_path):
    policy = python_policy("cannot_load", "lost")
    with pytest.raises(PolicyError, match=r"'lost' cannot be built: FileNotFoundError: model.safetensors"):
        harness.run(stub_suite(policies=[policy]), out=tmp_path / "out")


def test_resuming_runs_what_is_missing_and_errors_again(tmp_path):
    class Enough(Exception):
        pass

    def stop_early(progress):
        if progress.done >= 3:
            raise Enough

    sick = python_policy("RaisesOnTaskOne", "sick")
    slow = [{"suite": "stub_slow", "tasks": [0, 1, 2], "init_states": 4}]
    suite = stub_suite("stub_slow", tasks=slow, policies=[sick])
    with pytest.raises(Enough):
        harness.run(suite, out=tmp_path / "out", workers=1, on_progress=stop_early)
    before = harness.read(tmp_path / "out").episodes
    assert 3 <= len(before) < 12
    finished = int((before["outcome"] != "error").sum())

    result = harness.run(suite, out=tmp_path / "out", workers=2, resume=True)
    assert (result.planned, result.skipped, result.done) == (12, finished, 12 - finished)
    from harness.ledger import read

    every = read(tmp_path / "out", all_attempts=True).episodes
    kept = every[every["outcome"] != "error"]
    assert len(kept) == 8
    assert not kept.duplicated(IDENTITY).any()
    errors = every[every["outcome"] == "error"]
    assert sorted(errors.groupby("episode_key")["attempt"].max()) == sorted(
        1 + int(key in set(before[before["outcome"] == "error"]["episode_key"])) for key in set(errors["episode_key"])
    )
    statuses = read(tmp_path / "out").runs["status"].tolist()
    assert statuses == ["failed", "finished"]

    again = harness.run(suite, out=tmp_path / "out", workers=1, resume=True)
    assert (again.skipped, again.done) == (8, 4)


def test_all_films_the_first_episode_of_each_task_and_policy(tmp_path):
    suite = stub_suite(video="all")
    result = harness.run(suite, out=tmp_path / "out", workers=2)
    assert result.warnings == ()
    filmed = harness.read(tmp_path / "out").episodes.dropna(subset="video")
    assert len(filmed) == 6
    assert set(filmed["init_state_id"]) == {0}
    for path in filmed["video"]:
        assert (tmp_path / "out" / path).stat().st_size > 500
    assert "videos/noop/stub-task0-init0-trial0-timeout.mp4" in set(filmed["video"])


def test_failures_films_one_failed_episode_of_each_task_and_policy(tmp_path):
    suite = stub_suite(video="failures", policies=["noop", python_policy("Steady", "steady")])
    harness.run(suite, out=tmp_path / "out", workers=2)
    filmed = harness.read(tmp_path / "out").episodes.dropna(subset="video")
    assert Counter(zip(filmed["policy_id"], filmed["task_id"], strict=True)) == {("noop", task): 1 for task in range(3)}


def test_filming_changes_no_result(tmp_path):
    harness.run(stub_suite(), out=tmp_path / "plain", workers=1)
    harness.run(stub_suite(video="all"), out=tmp_path / "filmed", workers=1)
    assert results(tmp_path / "plain") == results(tmp_path / "filmed")


def test_a_worker_that_imports_torch_is_warned_about(tmp_path):
    result = harness.run(
        stub_suite(policies=[python_policy("PretendsToImportTorch", "heavy")]), out=tmp_path / "out", workers=1
    )
    assert "have imported torch" in result.warnings[0]
