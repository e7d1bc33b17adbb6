"""Runs that leave a dataset: what succeeds is in it, whoever ran it, and a half-finished run leaves none."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from stub_runs import make_unit, python_policy, stub_suite

import harness
from harness.cluster.recording import TEST_SET, Recording, check_recording, finish_recording
from harness.errors import HarnessError, SpecError, UsageError
from harness.ledger import LedgerWriter

SAMPLED = {"preset": "stub", "placements": "sampled"}


def suite(**changes):
    tasks = [{"suite": "stub", "tasks": [0, 1], "init_states": 3}]
    return stub_suite(
        **{"policies": [python_policy("Steady", "steady")], "protocol": SAMPLED, "tasks": tasks, **changes}
    )


def rows(directory: Path) -> list[dict]:
    return pq.read_table(directory / "data/chunk-000/file-000.parquet").to_pylist()


def episodes(directory: Path) -> list[dict]:
    return pq.read_table(directory / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


@pytest.mark.usefixtures("cluster")
def test_a_run_leaves_the_same_rows_whatever_the_number_of_workers_and_failures_only_on_request(tmp_path):
    noisy = suite(protocol={**SAMPLED, "max_steps": {"stub": 10}, "action_noise": 0.3})
    said: list[str] = []
    for workers, keep in ((1, False), (3, True)):
        target = Recording(str(tmp_path / str(keep)), keep_failures=keep)
        out = tmp_path / f"out-{keep}"
        result = harness.run(noisy, out=out, workers=workers, record=target, on_message=said.append)
        assert (result.errors, result.warnings) == ((), ())
        assert result.recorded is not None
    ledger = harness.read(tmp_path / "out-True").episodes.set_index("episode_key")
    assert set(ledger["outcome"]) == {"success", "timeout"}
    kept, all_of_them = episodes(tmp_path / "False"), episodes(tmp_path / "True")
    assert len(all_of_them) == result.recorded.episodes == 6
    for episode in all_of_them:
        row = ledger.loc[episode["episode_key"]]
        assert [episode[name] for name in ("trajectory_sha256", "length", "outcome")] == [
            row[name] for name in ("trajectory_sha256", "steps", "outcome")
        ]
    assert [each["episode_key"] for each in kept] == [
        each["episode_key"] for each in all_of_them if each["outcome"] == "success"
    ]
    successes = {each["episode_index"] for each in all_of_them if each["outcome"] == "success"}
    same = ("observation.images.image", "observation.state", "action", "executed", "timestamp")
    assert [[row[name] for name in same] for row in rows(tmp_path / "False")] == [
        [row[name] for name in same] for row in rows(tmp_path / "True") if row["episode_index"] in successes
    ]
    assert any(row["executed"] != row["action"] for row in rows(tmp_path / "False"))
    provenance = json.loads((tmp_path / "True/meta/vla_harness.json").read_text())
    assert provenance["policy"] == "steady"
    assert provenance["protocol"]["stub"]["init_states"] == "sampled:1"
    assert provenance["protocol"]["stub"]["action_noise"] == 0.3
    assert TEST_SET not in said


@pytest.mark.usefixtures("cluster")
def test_a_run_with_errors_leaves_its_parts_which_no_other_run_takes_and_resuming_completes_the_dataset(tmp_path):
    policy = [python_policy("RaisesUntilMended", "raises", marks=str(tmp_path))]
    target, said = Recording(str(tmp_path / "set")), []
    broken = suite(policies=policy, max_attempts=2, protocol="stub")
    first = harness.run(broken, out=tmp_path / "out", record=target, on_message=said.append)
    assert first.recorded is None
    assert TEST_SET in said
    assert len(list((tmp_path / "set/parts").iterdir())) == 3
    with pytest.raises(UsageError, match="holds 3 episodes that are not of this run"):
        harness.run(suite(), out=tmp_path / "other", record=target)
    (tmp_path / "mended").touch()
    second = harness.run(broken, out=tmp_path / "out", record=target, resume=True)
    assert second.recorded is not None
    assert second.recorded.episodes == 6
    with pytest.raises(UsageError, match="holds a finished dataset"):
        check_recording(target, broken)


def test_episodes_that_ran_without_being_recorded_are_missed(tmp_path):
    units = [make_unit(init_state_id=number) for number in range(3)]
    outcomes = ("success", "timeout", "error")
    successes = (True, False, None)
    found = [
        {"episode_key": unit.episode_key, "outcome": outcome, "success": success}
        for unit, outcome, success in zip(units, outcomes, successes, strict=True)
    ]
    LedgerWriter(tmp_path / "out").append("episodes", found)
    for keep, lacking in ((False, 1), (True, 2)):
        with pytest.raises(HarnessError, match=rf"{lacking} of {lacking} episodes in .* without being recorded"):
            finish_recording(Recording(str(tmp_path / "set"), keep), str(tmp_path / "out"), units, {})


def test_one_dataset_holds_one_policy_and_lies_on_a_local_disk():
    with pytest.raises(UsageError, match="one policy at one NFE, but this run has noop, random"):
        check_recording(Recording("set"), suite(policies=["noop", "random"]))
    with pytest.raises(UsageError, match="is a URI"):
        check_recording(Recording("s3://bucket/set"), suite())
    assert Path(check_recording(Recording("set"), suite()).directory).is_absolute()


def test_sampled_placements_need_a_number():
    with pytest.raises(SpecError, match="sampled placements have no end; say how many"):
        suite(tasks=[{"suite": "stub"}])
