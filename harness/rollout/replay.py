"""An episode played again from its actions, to be filmed.

Filming afterwards costs the episode itself nothing: no frame is rendered for a video while it runs, its times are
those of an unfilmed episode, and only episodes that turn out to be wanted are rendered at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError
from harness.schedule.result import EpisodeResult
from harness.worlds.base import Simulator


def replay_frames(
    sim: Simulator,
    result: EpisodeResult,
    actions: Sequence[NDArray[np.float32]],
    cameras: Sequence[str],
    resolution: int,
) -> Iterator[NDArray[np.uint8]]:
    """Run the actions again and yield a frame before the first and after each of them.

    Args:
        sim: Simulator of the episode's task.
        result: The episode that is played again: its unit and the digest of its trajectory.
        actions: What was executed, each of shape (7,).
        cameras: Cameras, put side by side.
        resolution: Height and width of each, pixels.

    Yields:
        RGB frames, shape (resolution, resolution × cameras, 3).

    Raises:
        SimulatorError: At the end, if the trajectory was not the same: the frames then show another episode.
    """
    unit = result.unit
    sim.reset(unit.init_state_id, trial=unit.trial, episode_key=unit.episode_key, observe=False)
    trajectory = hashlib.sha256()
    yield _frame(sim, cameras, resolution)
    for action in actions:
        sim.step(action, observe=False)
        trajectory.update(np.ascontiguousarray(sim.qpos, dtype=np.float64))
        yield _frame(sim, cameras, resolution)
    if trajectory.hexdigest() != result.trajectory_sha256:
        raise SimulatorError(
            f"{unit.suite} task {unit.task_id}, init state {unit.init_state_id} did not run the same way again, so its "
            "video is not kept; the simulator is not deterministic on this node."
        )


def _frame(sim: Simulator, cameras: Sequence[str], resolution: int) -> NDArray[np.uint8]:
    return np.concatenate([sim.frame(camera, resolution) for camera in cameras], axis=1)
