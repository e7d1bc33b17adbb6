"""Recorded episodes on disk before they are a dataset: one Parquet file each, whole or not there.

Every process that runs episodes writes its own, frames already compressed. The same episode always has the same name,
so that one that is run again replaces itself.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.errors import HarnessError, UsageError
from harness.ledger.storage import Location
from harness.policies.lerobot.families import LIBERO_KEYS
from harness.rollout.feature_stats import Stats, frame_stats
from harness.rollout.record import EpisodeRecord

PARTS = "parts"
"""Folder of the parts, in the dataset's."""
STATE_KEY, ACTION_KEY, EXECUTED_KEY = "observation.state", "action", "executed"
_META = b"vla_harness"
_PNG_LEVEL = 2
"""zlib level: on LIBERO's frames 1.7 times as fast as level 6 or more, for a tenth more bytes."""
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True, slots=True)
class EpisodePart:
    """One recorded episode on disk."""

    path: Path
    facts: Mapping[str, Any]
    """What `meta/episodes` says of it besides its place: suite, task_id, init_state_id, trial, policy, nfe, outcome,
    episode_key, trajectory_sha256; and instruction and fps."""
    shapes: Mapping[str, tuple[int, ...]]
    """LeRobot's image key → (H, W, 3)."""
    image_stats: Mapping[str, Stats]

    def read(self) -> pa.Table:
        """Its rows."""
        return pq.read_table(self.path)


def write_part(directory: str | Path, record: EpisodeRecord) -> Path:
    """Write an episode below the dataset's directory.

    Raises:
        UsageError: Not every control step was observed, or a camera has no key.
        LedgerError: It cannot be written; names the remedy.
    """
    if not np.array_equal(record.observed, np.arange(len(record.actions))):
        raise UsageError("A dataset has a row for every control step; record with stride 1.")
    unknown = sorted(set(record.frames) - set(LIBERO_KEYS))
    if unknown:
        raise UsageError(f"Camera {unknown[0]!r} has no key in LeRobot's datasets; record {', '.join(LIBERO_KEYS)}.")
    frames = {LIBERO_KEYS[camera]: pictures for camera, pictures in record.frames.items()}
    columns: dict[str, Any] = {key: _images(pictures) for key, pictures in frames.items()}
    columns[STATE_KEY] = _vectors(record.state)
    columns[ACTION_KEY] = _vectors(record.actions)
    columns[EXECUTED_KEY] = _vectors(record.executed)
    meta = {
        "facts": _facts(record),
        "shapes": {key: pictures.shape[1:] for key, pictures in frames.items()},
        "image_stats": {key: listed(frame_stats(pictures)) for key, pictures in frames.items()},
    }
    table = pa.table(columns).replace_schema_metadata({_META: json.dumps(meta).encode()})
    location = Location.of(Path(directory) / PARTS)
    location.make_dir(location.root)
    path = f"{location.root}/{_name(record)}"
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="snappy")
    location.write_whole(path, buffer.getvalue())
    return Path(path)


def read_parts(directory: str | Path) -> list[EpisodePart]:
    """The parts below a dataset's directory, by suite, task, init state and trial.

    Raises:
        HarnessError: A file is none.
    """
    return [_read(path) for path in sorted((Path(directory) / PARTS).glob("*.parquet"))]


def listed(stats: Stats) -> dict[str, Any]:
    """Statistics as plain lists, for JSON."""
    return {name: value.tolist() for name, value in stats.items()}


def _read(path: Path) -> EpisodePart:
    try:
        meta = json.loads((pq.read_schema(path).metadata or {})[_META])
    except (OSError, KeyError, ValueError) as error:
        raise HarnessError(f"{path} is no recorded episode ({error}); delete it and run with --resume.") from error
    stats = {key: {n: np.array(v) for n, v in values.items()} for key, values in meta["image_stats"].items()}
    return EpisodePart(path, meta["facts"], {key: tuple(shape) for key, shape in meta["shapes"].items()}, stats)


def _facts(record: EpisodeRecord) -> dict[str, Any]:
    unit = record.unit
    return {
        "suite": unit.suite,
        "task_id": unit.task_id,
        "init_state_id": unit.init_state_id,
        "trial": unit.trial,
        "policy": unit.policy,
        "nfe": unit.nfe,
        "outcome": record.outcome,
        "episode_key": unit.episode_key,
        "trajectory_sha256": record.trajectory_sha256,
        "instruction": record.instruction,
        "fps": record.fps,
    }


def _name(record: EpisodeRecord) -> str:
    unit = record.unit
    return f"{unit.suite}-{unit.task_id:04d}-{unit.init_state_id:06d}-{unit.trial:04d}.parquet"


def _images(frames: NDArray[np.uint8]) -> pa.Array:
    return pa.array([{"bytes": png(frame), "path": f"frame-{i:06d}.png"} for i, frame in enumerate(frames)], IMAGE)


def png(frame: NDArray[np.uint8]) -> bytes:
    """Compress a frame (H, W, 3) without loss."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def _vectors(values: NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
