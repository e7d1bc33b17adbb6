"""Videos of episodes, where reports look for them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.errors import LedgerError
from harness.ledger.storage import Location
from harness.rollout.replay import replay_frames
from harness.schedule.result import EpisodeResult
from harness.worlds.base import Simulator

RESOLUTION = 256
"""Height and width of a video's frames, pixels."""
LONGEST = 120
"""Characters of a name in a path."""


def video_path(result: EpisodeResult) -> str:
    """Path of an episode's video, relative to the ledger's directory: three parts, whatever names are in it."""
    unit = result.unit
    policy = _part(unit.policy) + (f"-nfe{unit.nfe}" if unit.nfe is not None else "")
    episode = f"{_part(unit.suite)}-task{unit.task_id}-init{unit.init_state_id}-trial{unit.trial}-{result.outcome}"
    return f"videos/{policy}/{episode}.mp4"


def _part(name: str) -> str:
    """A name as part of a path: neither a step upwards nor hidden, and short enough for any file system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".")[:LONGEST] or "-"


def cameras_for(renderer: str, cameras: tuple[str, ...]) -> tuple[str, ...]:
    """Cameras of a video: all that the world has where a GPU renders, else its first: each costs 0.1 s a frame."""
    return cameras if renderer in ("egl-gpu", "none") else cameras[:1]


def film(
    simulator: Simulator,
    result: EpisodeResult,
    actions: Sequence[NDArray[np.float32]],
    ledger: Location,
    cameras: Sequence[str],
    send: Callable[[str, bytes], object] | None = None,
    *,
    fps: int = 20,
) -> str:
    """Play an episode again and film it.

    Args:
        simulator: Simulator of the episode's task.
        result: The episode that is filmed: its unit and the digest of its trajectory.
        actions: Actions that it executed.
        ledger: The ledger's directory; to one that is not local the finished video is uploaded.
        cameras: Cameras, put side by side.
        send: Takes (path, the video) on a node that need not share the ledger's file system; None: it is here.
        fps: Frames a second: the control rate, for real time.

    Returns:
        Path of the video, relative to the ledger.

    Raises:
        SimulatorError: It did not run the same way again.
        LedgerError: The video cannot be uploaded.
    """
    from harness.sim.video import VideoWriter

    path = video_path(result)
    with tempfile.TemporaryDirectory(prefix="harness-video-") as scratch:
        here = ledger.is_local and send is None
        target = Path(ledger.root if here else scratch) / path
        if here and not Path(ledger.root).is_dir():
            raise LedgerError(f"The ledger {ledger.label!r} was removed while a run wrote to it.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(target, fps=fps) as writer:
            for frame in replay_frames(simulator, result, actions, cameras, RESOLUTION):
                writer.append(frame)
        if send is not None:
            send(path, target.read_bytes())
        elif not here and target.is_file():
            ledger.write_file(path, pa.py_buffer(target.read_bytes()))
    return path
