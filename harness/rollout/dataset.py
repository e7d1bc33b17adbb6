"""Recorded episodes as a LeRobot dataset (format v3.0).

The files are written here, with pyarrow, rather than by LeRobot's classes, which want every frame as an array once
more, in one process that imports torch. So frames are compressed where they are rendered, by every worker at once, and
their bytes are not touched again. The layout is LeRobot's, column by column: `LeRobotDataset` reads it, and `verify`
has it do so.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.errors import HarnessError, UsageError
from harness.rollout.episode_parts import ACTION_KEY, EXECUTED_KEY, PARTS, STATE_KEY, EpisodePart, listed, read_parts
from harness.rollout.feature_stats import Stats, pooled_stats, vector_stats

VERSION = "v3.0"
ROBOT = "panda"
INFO, STATS, TASKS, PROVENANCE = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/vla_harness.json"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILE_MB, CHUNK_FILES = 100, 1000
"""LeRobot's limits: size of a data file, files in a folder."""
SCALARS: Mapping[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
MOTORS = {
    STATE_KEY: ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "finger1", "finger2"],
    ACTION_KEY: ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3", "gripper"],
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """What was made."""

    directory: Path
    episodes: int
    frames: int
    tasks: int


@dataclass(slots=True)
class _Progress:
    """Where the next episode goes."""

    episodes: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    file: int = -1
    file_bytes: int = 0
    stats: list[dict[str, Stats]] = field(default_factory=list)
    writer: pq.ParquetWriter | None = None


def require_new(directory: str | Path) -> None:
    """Refuse a directory that holds a dataset already.

    Raises:
        UsageError: It does, or it is no local path.
    """
    if "://" in str(directory):
        raise UsageError(f"Datasets are written to local disks, but {str(directory)!r} is a URI; give a path.")
    if (Path(directory) / INFO).exists():
        raise UsageError(f"{directory} holds a finished dataset; give --record another directory.")


def write_dataset(directory: str | Path, provenance: Mapping[str, Any]) -> Dataset:
    """Make a dataset of the parts below a directory, and remove the parts.

    `meta/info.json` is written last: a directory without it is no dataset yet, and this can be called again.

    Args:
        directory: Where `write_part` wrote.
        provenance: What `meta/vla_harness.json` says of where the episodes come from.

    Raises:
        UsageError: There is no episode, a dataset is there already, or frames differ in size.
    """
    root = Path(directory)
    require_new(root)
    parts = read_parts(root)
    if not parts:
        raise UsageError(f"No episode was recorded in {root}: none succeeded (--record-failures keep keeps the rest).")
    odd = next((part for part in parts if _kind(part) != _kind(parts[0])), None)
    if odd is not None:
        raise UsageError(f"{odd.path.name} differs from {parts[0].path.name} in frames or rate; record them apart.")
    progress = _Progress()
    schema = _schema(parts[0])
    for part in parts:
        _append(root, part, schema, progress)
    _close(progress)
    _write_meta(root, parts[0], progress, provenance)
    shutil.rmtree(root / PARTS)
    return Dataset(root, len(parts), progress.frames, len(progress.tasks))


def verify(directory: str | Path) -> None:
    """Have LeRobot read a dataset's first and last row. Imports torch.

    Raises:
        HarnessError: It cannot.
    """
    disabled = logging.root.manager.disable
    # It warns of video decoders, which a dataset of images does without.
    logging.disable(logging.WARNING)
    try:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        dataset = LeRobotDataset("local/recorded", root=Path(directory))
        for index in (0, len(dataset) - 1):
            _ = dataset[index]
    except Exception as error:
        raise HarnessError(f"LeRobot cannot read {directory}: {type(error).__name__}: {error}.") from error
    finally:
        logging.disable(disabled)


def _kind(part: EpisodePart) -> tuple[Any, ...]:
    return (part.facts["fps"], sorted(part.shapes.items()))


def _schema(part: EpisodePart) -> pa.Schema:
    """Columns of the data files; the metadata tell Hugging Face's `datasets` that structs are images."""
    own = part.read().schema.remove_metadata()
    fields = [*own, *(pa.field(name, pa.type_for_alias(dtype)) for name, dtype in SCALARS.items())]
    features: dict[str, Any] = {key: {"_type": "Image"} for key in part.shapes}
    for column in own:
        if column.name not in features:
            value = {"dtype": "float32", "_type": "Value"}
            features[column.name] = {"feature": value, "length": column.type.list_size, "_type": "List"}
    features |= {name: {"dtype": dtype, "_type": "Value"} for name, dtype in SCALARS.items()}
    return pa.schema(fields, {b"huggingface": json.dumps({"info": {"features": features}}).encode()})


def _append(root: Path, part: EpisodePart, schema: pa.Schema, progress: _Progress) -> None:
    """Append an episode as one row group, and note what `meta` says of it."""
    table = part.read()
    rows, episode = len(table), len(progress.episodes)
    task = progress.tasks.setdefault(part.facts["instruction"], len(progress.tasks))
    counted = np.arange(rows, dtype=np.int64)
    scalars: dict[str, NDArray[Any]] = {
        "timestamp": (counted / part.facts["fps"]).astype(np.float32),
        "frame_index": counted,
        "episode_index": np.full(rows, episode, dtype=np.int64),
        "index": counted + progress.frames,
        "task_index": np.full(rows, task, dtype=np.int64),
    }
    for name, values in scalars.items():
        table = table.append_column(name, pa.array(values))
    size = part.path.stat().st_size
    if progress.writer is None or progress.file_bytes + size > FILE_MB * 2**20:
        _open(root, schema, progress)
    assert progress.writer is not None  # noqa: S101
    progress.writer.write_table(table.select(schema.names).cast(schema))
    progress.file_bytes += size
    vectors = {key: _matrix(table[key]) for key in (STATE_KEY, ACTION_KEY, EXECUTED_KEY)}
    stats = {key: vector_stats(values) for key, values in {**vectors, **scalars}.items()} | dict(part.image_stats)
    progress.stats.append(stats)
    progress.episodes.append(_episode_row(part, progress, rows, stats))
    progress.frames += rows


def _episode_row(part: EpisodePart, progress: _Progress, rows: int, stats: Mapping[str, Stats]) -> dict[str, Any]:
    facts = {key: value for key, value in part.facts.items() if key not in ("instruction", "fps")}
    return {
        "episode_index": len(progress.episodes),
        "tasks": [part.facts["instruction"]],
        "length": rows,
        "data/chunk_index": progress.file // CHUNK_FILES,
        "data/file_index": progress.file % CHUNK_FILES,
        "dataset_from_index": progress.frames,
        "dataset_to_index": progress.frames + rows,
        **{f"stats/{key}/{name}": value for key, each in stats.items() for name, value in listed(each).items()},
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        **facts,
    }


def _open(root: Path, schema: pa.Schema, progress: _Progress) -> None:
    _close(progress)
    progress.file, progress.file_bytes = progress.file + 1, 0
    path = root / DATA.format(chunk_index=progress.file // CHUNK_FILES, file_index=progress.file % CHUNK_FILES)
    path.parent.mkdir(parents=True, exist_ok=True)
    progress.writer = pq.ParquetWriter(path, schema, compression="snappy")


def _close(progress: _Progress) -> None:
    if progress.writer is not None:
        progress.writer.close()
        progress.writer = None


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy()
    matrix: NDArray[np.float32] = flat.reshape(len(column), -1)
    return matrix


def _write_meta(root: Path, part: EpisodePart, progress: _Progress, provenance: Mapping[str, Any]) -> None:
    import pandas as pd

    episodes = root / EPISODES
    episodes.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(progress.episodes), episodes)
    tasks = pd.DataFrame(
        {"task_index": list(progress.tasks.values())}, index=pd.Index(list(progress.tasks), name="task")
    )
    tasks.to_parquet(root / TASKS)
    pooled = {key: listed(pooled_stats([stats[key] for stats in progress.stats])) for key in progress.stats[0]}
    _write_json(root / STATS, pooled)
    _write_json(root / PROVENANCE, provenance)
    _write_json(root / INFO, _info(part, progress))


def _info(part: EpisodePart, progress: _Progress) -> dict[str, Any]:
    features: dict[str, Any] = {
        key: {"dtype": "image", "shape": list(shape), "names": ["height", "width", "channel"]}
        for key, shape in part.shapes.items()
    }
    features[STATE_KEY] = {"dtype": "float32", "shape": [8], "names": {"motors": MOTORS[STATE_KEY]}}
    features[ACTION_KEY] = {"dtype": "float32", "shape": [7], "names": {"motors": MOTORS[ACTION_KEY]}}
    features[EXECUTED_KEY] = {"dtype": "float32", "shape": [7], "names": {"motors": MOTORS[ACTION_KEY]}}
    features |= {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in SCALARS.items()}
    return {
        "codebase_version": VERSION,
        "robot_type": ROBOT,
        "total_episodes": len(progress.episodes),
        "total_frames": progress.frames,
        "total_tasks": len(progress.tasks),
        "chunks_size": CHUNK_FILES,
        "data_files_size_in_mb": FILE_MB,
        "video_files_size_in_mb": 200,
        "fps": part.facts["fps"],
        "splits": {"train": f"0:{len(progress.episodes)}"},
        "data_path": DATA,
        "video_path": None,
        "features": features,
    }


def _write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.rename(path)
