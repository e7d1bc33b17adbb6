"""Whole runs of the stub world on a real Ray cluster."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from stub_runs import python_policy, stub_suite

import harness
from harness.analysis import worker_time
from harness.analysis.summary import Summary
from harness.analysis.timing import WORKER_PARTS
from harness.cluster import controller
from harness.cluster.run import RunResult
from harness.errors import NodeError, PolicyError
from harness.ledger.schema import PHASES
from harness.schedule.progress import Progress

pytestmark = pytest.mark.usefixtures("cluster")

IDENTITY = ["policy_id", "nfe", "suite", "task_id", "init_state_id", "trial", "episode_key"]
RESULT = [*IDENTITY, "outcome", "steps", "decisions", "clipped", "trajectory_sha256"]


def results(path) -> list[tuple]:
    """What must not depend on workers, order or luck."""
    frame = harness.read(path).episodes[RESULT].astype(object)
    return sorted(frame.itertuples(index=False, name=None), key=str)


def attempts(path) -> list[int]:
    """The attempt that counts of every episode; the ones before it are errors, each written once."""
    from harness.ledger import read

    every, ledger = read(path, all_attempts=True).episodes, read(path)
    assert not every.duplicated([*IDENTITY, "attempt"]).any()
    assert not every[every["outcome"] != "error"].duplicated(IDENTITY).any()
    assert len(every) == len(ledger.episodes) + len(ledger.retried)
    return ledger.episodes["attempt"].tolist()


@dataclass(frozen=True)
class Plain:
    """A run of two workers in which nothing happens: what other runs are compared with."""

    out: Path
    result: RunResult
    seen: list[Progress]


POLICIES = ["noop", "random", python_policy("Steady", "steady")]


@pytest.fixture(scope="module")
def plain(cluster, tmp_path_factory) -> Plain:
    """Three tasks, four initial states, three policies."""
    out, seen = tmp_path_factory.mktemp("plain") / "out", []
    result = harness.run(stub_suite(policies=POLICIES), out=out, workers=2, on_progress=seen.append)
    return Plain(out, result, seen)


def test_a_run_leaves_one_row_per_unit_and_says_what_it_did(plain):
    result, seen = plain.result, plain.seen
    ledger = harness.read(plain.out)
    assert (result.planned, result.done, result.skipped, result.interrupted) == (36, 36, 0, False)
    assert (result.errors, result.warnings) == ((), ())
    assert dict(result.outcomes) == {**Counter(ledger.episodes["outcome"]), "error": 0}
    assert attempts(plain.out) == [1] * 36
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
    run = ledger.runs.iloc[0]
    assert ledger.phases["phase"].tolist() == [name for name in PHASES if name != "probes"]
    whole_s = (run["ended_at"] - run["started_at"]).total_seconds()
    assert ledger.phases["seconds"].sum() == pytest.approx(whole_s, abs=0.5)


def test_results_depend_neither_on_the_number_of_workers_nor_on_further_trials_nor_on_filming(plain, tmp_path):
    tasks = [{"suite": "stub", "tasks": [0, 1, 2], "init_states": 4, "trials": 2}]
    result = harness.run(stub_suite(policies=POLICIES, tasks=tasks, video="all"), out=tmp_path / "out", workers=3)
    assert result.warnings == ()
    both = results(tmp_path / "out")
    first = [row for row in both if row[RESULT.index("trial")] == 0]
    assert (len(both), first) == (72, results(plain.out))
    filmed = harness.read(tmp_path / "out").episodes.dropna(subset="video")
    assert len(filmed) == 9, "the first episode of each task and policy"
    assert set(filmed["init_state_id"]) == {0}
    for path in filmed["video"]:
        assert (tmp_path / "out" / path).stat().st_size > 500
    assert "videos/noop/stub-task0-init0-trial0-timeout.mp4" in set(filmed["video"])


def test_one_slow_episode_delays_nobody(tmp_path):
    slow = {"suite": "stub_slow", "tasks": [0], "init_states": 3}
    quick = {"suite": "stub", "init_states": 2}
    protocol = {"preset": "stub", "max_steps": {"stub": 50, "stub_slow": 150}}
    suite = stub_suite(tasks=[slow, quick], protocol=protocol, policies=["noop"])
    harness.run(suite, out=tmp_path / "out", workers=2)
    episodes = harness.read(tmp_path / "out").episodes.sort_values("started_at")
    slow_ones = episodes[episodes["suite"] == "stub_slow"]
    first, last = slow_ones.iloc[0], slow_ones.iloc[-1]
    assert slow_ones["wall_s"].min() > 3
    # The other worker went on meanwhile; how far it came depends on the machine's load.
    busy_s = (last["started_at"] - first["started_at"]).total_seconds() + last["wall_s"]
    since_s = (episodes["started_at"] - first["started_at"]).dt.total_seconds()
    meanwhile = episodes[(episodes["worker"] != first["worker"]) & since_s.between(0, busy_s)]
    assert len(meanwhile) > 1
    assert meanwhile["idle_s"].iloc[1:].sum() < busy_s / 2


def test_workers_are_never_idle_while_there_is_work(tmp_path):
    suite = stub_suite("stub_slow", tasks=[{"suite": "stub_slow", "init_states": 1}], policies=["noop"])
    result = harness.run(suite, out=tmp_path / "out", workers=2)
    worked = harness.read(tmp_path / "out").episodes["wall_s"].sum()
    assert worked > 9
    assert result.rollout_s < 0.75 * worked


def test_a_worker_killed_mid_run_loses_nothing_and_repeats_nothing(plain, tmp_path):
    policy = python_policy("KillsItsProcessOnce", "steady", marks=str(tmp_path))
    result = harness.run(stub_suite(policies=["noop", policy]), out=tmp_path / "out", workers=2)
    assert (result.done, result.errors) == (24, ())
    assert (tmp_path / "killed").exists()
    assert len(attempts(tmp_path / "out")) == 24
    calm = [row for row in results(plain.out) if row[RESULT.index("policy_id")] != "random"]
    assert results(tmp_path / "out") == calm


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


@pytest.fixture(scope="module")
def troubled(cluster, tmp_path_factory) -> tuple[RunResult, pd.DataFrame]:
    """A run of one worker whose policies raise, hang, and import torch; and its episodes."""
    suite = stub_suite(
        policies=[
            python_policy("RaisesOnTaskOne", "sick"),
            python_policy("HangsOnTaskOne", "hang"),
            python_policy("PretendsToImportTorch", "heavy"),
        ],
        tasks=[{"suite": "stub", "tasks": [0, 1], "init_states": 2}],
        limits={"decision_s": 0.3},
        max_attempts=2,
    )
    out = tmp_path_factory.mktemp("troubled") / "out"
    return harness.run(suite, out=out, workers=1), harness.read(out).episodes


def outcomes_of(episodes: pd.DataFrame, policy: str) -> dict[tuple[int, str], int]:
    """(task, outcome) → episodes of a policy."""
    return episodes[episodes["policy_id"] == policy].groupby(["task_id", "outcome"]).size().to_dict()


def test_a_policy_that_raises_is_recorded_at_once_and_named(troubled):
    result, episodes = troubled
    errors = episodes.query("policy_id == 'sick' and outcome == 'error'")
    assert set(errors["error_type"]) == {"PolicyRaised"}
    assert set(errors["attempt"]) == {1}
    assert any("ValueError: no such bowl" in error for error in result.errors)
    assert outcomes_of(episodes, "sick") == {(0, "success"): 2, (1, "error"): 2}


def test_a_policy_that_hangs_costs_its_limit_and_its_worker_goes_on(troubled):
    result, episodes = troubled
    errors = episodes.query("policy_id == 'hang' and outcome == 'error'")
    assert set(errors["error_type"]) == {"PolicyTimeout"}
    assert outcomes_of(episodes, "hang") == {(0, "success"): 2, (1, "error"): 2}
    assert outcomes_of(episodes, "heavy") == {(0, "success"): 2, (1, "success"): 2}
    assert result.workers == 1


def test_a_worker_that_imports_torch_is_warned_about(troubled):
    assert "have imported torch" in troubled[0].warnings[0]


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
    told = Summary(harness.read(tmp_path / "out")).retries
    assert told[["error_type", "count"]].to_numpy().tolist() == [["EpisodeTimeout", 1]]
    assert told["node_id"].tolist() == harness.read(tmp_path / "out").nodes["node_id"].tolist()


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
    usage = harness.read(tmp_path / "out").usage
    assert usage["workers"].max() == 2
    if factory == "ServerHangsOnce":
        assert usage["server_busy"].max() > 0.9


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


def test_failures_films_one_failed_episode_of_each_task_and_policy(tmp_path):
    suite = stub_suite(video="failures", policies=["noop", python_policy("Steady", "steady")])
    harness.run(suite, out=tmp_path / "out", workers=2)
    filmed = harness.read(tmp_path / "out").episodes.dropna(subset="video")
    assert Counter(zip(filmed["policy_id"], filmed["task_id"], strict=True)) == {("noop", task): 1 for task in range(3)}
