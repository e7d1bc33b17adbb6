"""Recorded episodes are a LeRobot dataset, frame for frame and number for number."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from harness.errors import HarnessError, UsageError
from harness.rollout import dataset as module
from harness.rollout.dataset import Dataset, verify, write_dataset
from harness.rollout.episode_parts import png, read_parts, write_part
from harness.rollout.feature_stats import frame_stats, pooled_stats, vector_stats
from harness.rollout.record import EpisodeRecord
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import CAMERAS

SIZE = 16


def episode(task_id: int, number: int, steps: int, outcome: str = "success") -> EpisodeRecord:
    """An episode of random numbers."""
    draw = np.random.default_rng([task_id, number])
    actions = draw.uniform(-1, 1, (steps, 7)).astype(np.float32)
    return EpisodeRecord(
        unit=EpisodeUnit("scripted", None, "stub", task_id, number, 0, f"{task_id}{number}" * 32, "ab" * 32),
        instruction=f"do task {task_id}",
        outcome=outcome,
        fps=20,
        observed=np.arange(steps),
        frames={camera: draw.integers(0, 256, (steps, SIZE, SIZE, 3), dtype=np.uint8) for camera in CAMERAS},
        state=draw.normal(size=(steps, 8)).astype(np.float32),
        actions=actions,
        executed=actions + np.float32(0.125),
        trajectory_sha256="cd" * 32,
    )


EPISODES = (episode(0, 0, 5), episode(0, 3, 7, "timeout"), episode(2, 1, 6))


@pytest.fixture
def made(tmp_path: Path) -> Dataset:
    # Workers finish in any order.
    for record in reversed(EPISODES):
        write_part(tmp_path / "set", record)
    return write_dataset(tmp_path / "set", {"policy": "scripted"})


def test_rows_are_in_the_order_of_tasks_whatever_order_they_were_written_in(made: Dataset) -> None:
    assert (made.episodes, made.frames, made.tasks) == (3, 18, 2)
    table = pq.read_table(made.directory / "data/chunk-000/file-000.parquet")
    assert table["episode_index"].to_pylist() == [0] * 5 + [1] * 7 + [2] * 6
    assert table["task_index"].to_pylist() == [0] * 12 + [1] * 6
    assert table["index"].to_pylist() == list(range(18))
    assert table["frame_index"].to_pylist() == [*range(5), *range(7), *range(6)]
    np.testing.assert_allclose(table["timestamp"].to_numpy()[:5], np.arange(5) / 20, rtol=1e-6)
    np.testing.assert_array_equal(np.stack(table["action"].to_numpy()[5:12]), EPISODES[1].actions)
    np.testing.assert_array_equal(np.stack(table["executed"].to_numpy()[12:]), EPISODES[2].executed)


def test_frames_are_kept_without_loss_under_lerobots_keys(made: Dataset) -> None:
    table = pq.read_table(made.directory / "data/chunk-000/file-000.parquet")
    for camera, key in (("agentview", "image"), ("robot0_eye_in_hand", "image2")):
        picture = table[f"observation.images.{key}"][6].as_py()
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(picture["bytes"]))), EPISODES[1].frames[camera][1])


def test_lerobot_reads_it(made: Dataset) -> None:
    verify(made.directory)
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    read = LeRobotDataset("local/x", root=made.directory, delta_timestamps={"action": [0.0, 0.05, 0.1]})
    assert (len(read), read.num_episodes, read.fps) == (18, 3, 20)
    row = read[7]
    assert row["task"] == "do task 0"
    np.testing.assert_array_equal(row["action"].numpy(), EPISODES[1].actions[2:5])
    np.testing.assert_array_equal(row["observation.state"].numpy(), EPISODES[1].state[2])
    pixels = (row["observation.images.image2"].numpy() * 255).round().transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels, EPISODES[1].frames["robot0_eye_in_hand"][2])
    only = LeRobotDataset("local/x", root=made.directory, episodes=[2])
    assert len(only) == 6
    assert only[0]["task"] == "do task 2"


def test_it_is_laid_out_as_lerobots_own_writer_would(made: Dataset, tmp_path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features = json.loads((made.directory / "meta/info.json").read_text())["features"]
    own = {key: value for key, value in features.items() if key not in module.SCALARS}
    theirs = LeRobotDataset.create(
        "local/y", fps=20, features=own, root=tmp_path / "theirs", robot_type="panda", use_videos=False
    )
    for record in EPISODES:
        for step in range(len(record.actions)):
            theirs.add_frame(
                {
                    "observation.images.image": record.frames["agentview"][step],
                    "observation.images.image2": record.frames["robot0_eye_in_hand"][step],
                    "observation.state": record.state[step],
                    "action": record.actions[step],
                    "executed": record.executed[step],
                    "task": record.instruction,
                }
            )
        theirs.save_episode()
    theirs.finalize()

    for path in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        mine, other = (pq.read_table(root / path) for root in (made.directory, tmp_path / "theirs"))
        assert {field.name: field.type for field in other.schema}.items() <= {
            field.name: field.type for field in mine.schema
        }.items()
        plain = [name for name in other.column_names if "stats/" not in name and "images" not in name]
        assert mine.select(plain).to_pylist() == other.select(plain).to_pylist()
    infos = [json.loads((root / "meta/info.json").read_text()) for root in (made.directory, tmp_path / "theirs")]
    assert infos[0] == infos[1]
    tasks = [pd.read_parquet(root / "meta/tasks.parquet") for root in (made.directory, tmp_path / "theirs")]
    pd.testing.assert_frame_equal(*tasks)
    ours, expected = (
        json.loads((root / "meta/stats.json").read_text()) for root in (made.directory, tmp_path / "theirs")
    )
    assert ours.keys() == expected.keys()
    for key in ("observation.state", "action", "timestamp", "index"):
        for name in ("min", "max", "mean", "std", "count"):
            np.testing.assert_allclose(ours[key][name], expected[key][name], rtol=1e-4, atol=1e-6)
    for name in ("mean", "std"):
        image = "observation.images.image"
        np.testing.assert_allclose(ours[image][name], expected[image][name], atol=0.05)
        assert np.shape(ours[image][name]) == np.shape(expected[image][name])


def test_an_episode_says_where_it_comes_from(made: Dataset) -> None:
    rows = pq.read_table(made.directory / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["suite"], row["task_id"], row["init_state_id"], row["outcome"]) for row in rows] == [
        ("stub", 0, 0, "success"),
        ("stub", 0, 3, "timeout"),
        ("stub", 2, 1, "success"),
    ]
    assert rows[0]["trajectory_sha256"] == "cd" * 32
    assert json.loads((made.directory / "meta/vla_harness.json").read_text()) == {"policy": "scripted"}


def test_large_sets_are_split_into_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for record in EPISODES:
        write_part(tmp_path, record)
    monkeypatch.setattr(module, "FILE_MB", 0.02)
    write_dataset(tmp_path, {})
    assert len(list(tmp_path.glob("data/chunk-000/*.parquet"))) == 3
    verify(tmp_path)


def test_an_episode_that_runs_again_replaces_itself_and_parts_are_gone_at_the_end(tmp_path: Path) -> None:
    write_part(tmp_path, EPISODES[0])
    write_part(tmp_path, replace(EPISODES[0], actions=EPISODES[0].actions * 0))
    assert len(read_parts(tmp_path)) == 1
    assert write_dataset(tmp_path, {}).episodes == 1
    assert not (tmp_path / "parts").exists()


def test_what_is_no_dataset_is_refused(tmp_path: Path, made: Dataset) -> None:
    with pytest.raises(UsageError, match="No episode was recorded"):
        write_dataset(tmp_path / "empty", {})
    with pytest.raises(UsageError, match="holds a finished dataset"):
        write_dataset(made.directory, {})
    with pytest.raises(UsageError, match="is a URI"):
        module.require_new("s3://bucket/set")
    with pytest.raises(UsageError, match="stride 1"):
        write_part(tmp_path, replace(EPISODES[0], observed=np.array([0, 4])))
    write_part(tmp_path / "mixed", EPISODES[0])
    write_part(tmp_path / "mixed", replace(EPISODES[2], fps=10))
    with pytest.raises(UsageError, match=r"differs from .* in frames or rate"):
        write_dataset(tmp_path / "mixed", {})
    broken = tmp_path / "broken" / "parts" / "x.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"PAR1")
    with pytest.raises(HarnessError, match="is no recorded episode"):
        write_dataset(tmp_path / "broken", {})


def test_a_set_that_claims_more_rows_than_it_has_is_found_out(made: Dataset) -> None:
    path = made.directory / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "total_frames": 19}))
    with pytest.raises(HarnessError, match="LeRobot cannot read"):
        verify(made.directory)


def test_statistics_of_parts_pool_to_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    pooled, whole = pooled_stats([vector_stats(values[:10]), vector_stats(values[10:])]), vector_stats(values)
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(pooled[name], whole[name])
    frames = np.full((3, 8, 8, 3), 51, dtype=np.uint8)
    np.testing.assert_allclose(frame_stats(frames)["mean"], np.full((3, 1, 1), 0.2))


def test_png_is_lossless() -> None:
    frame = EPISODES[0].frames["agentview"][0]
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png(frame)))), frame)
