"""Videos of episodes, where reports look for them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.ledger.storage import Location
from harness.rollout.replay import replay_frames
from harness.schedule.result import EpisodeResult
from harness.sim.base import Simulator
from harness.spec.observation import CAMERAS

RESOLUTION = 256
"""Height and width of a video's frames, pixels."""
FPS = 20
"""Real time at LIBERO's control rate of 20 Hz."""


def video_path(result: EpisodeResult) -> str:
    """Path of an episode's video, relative to the ledger's directory."""
    unit = result.unit
    policy = re.sub(r"[^A-Za-z0-9._-]+", "-", unit.policy) + (f"-nfe{unit.nfe}" if unit.nfe is not None else "")
    episode = f"{unit.suite}-task{unit.task_id}-init{unit.init_state_id}-trial{unit.trial}-{result.outcome}"
    return f"videos/{policy}/{episode}.mp4"


def cameras_for(renderer: str) -> tuple[str, ...]:
    """Cameras of a video: both where a GPU renders, else the third-person one, since each costs 0.1 s a frame."""
    return CAMERAS if renderer in ("egl-gpu", "none") else CAMERAS[:1]


def film(
    simulator: Simulator,
    result: EpisodeResult,
    actions: Sequence[NDArray[np.float32]],
    ledger: Location,
    cameras: Sequence[str],
) -> str:
    """Play an episode again and film it.

    Args:
        simulator: Simulator of the episode's task.
        result: The episode that is filmed: its unit and the digest of its trajectory.
        actions: Actions that it executed, shape (7,) each.
        ledger: The ledger's directory; to one that is not local the finished video is uploaded.
        cameras: Cameras, put side by side.

    Returns:
        Path of the video, relative to the ledger.

    Raises:
        SimulatorError: It did not run the same way again.
        LedgerError: The video cannot be uploaded.
    """
    from harness.sim.video import VideoWriter

    path = video_path(result)
    with tempfile.TemporaryDirectory(prefix="harness-video-") as scratch:
        target = Path(ledger.root if ledger.is_local else scratch) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(target, fps=FPS) as writer:
            for frame in replay_frames(simulator, result, actions, cameras, RESOLUTION):
                writer.append(frame)
        if not ledger.is_local and target.is_file():
            ledger.write_file(path, pa.py_buffer(target.read_bytes()))
    return path
