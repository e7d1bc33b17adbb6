"""Distances between the actions of two policies on the same observations and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DIMENSIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""Dimensions of an action: motion of the end effector, and the gripper."""


class Decisions(NamedTuple):
    """Chunks of two policies on the same observations."""

    teacher: NDArray[np.float32]
    """Shape (decisions, T, 7)."""
    student: NDArray[np.float32]


def distance_by_dimension(found: Decisions) -> pd.DataFrame:
    """Distance in each dimension of an action, over all decisions and chunk steps.

    Returns:
        One row per dimension: `rms` (in action units), `share` (RMS over the RMS spread of the teacher's own actions in
        it: 1 is as far apart as two random decisions of the teacher nearly are), `p95` of the absolute difference.
    """
    gap = (found.student - found.teacher).astype(float).reshape(-1, found.teacher.shape[-1])
    spread = found.teacher.astype(float).reshape(gap.shape).std(axis=0)
    rms = np.sqrt((gap**2).mean(axis=0))
    share = np.divide(rms, spread, out=np.full_like(rms, np.nan), where=spread > 0)
    p95 = np.quantile(np.abs(gap), 0.95, axis=0)
    return pd.DataFrame({"dimension": DIMENSIONS[: rms.size], "rms": rms, "share": share, "p95": p95})


def distance_by_step(found: Decisions) -> pd.DataFrame:
    """Distance at each step of the chunk, over all decisions, motion and gripper apart.

    Returns:
        One row per chunk step from 0: `motion` (RMS over the six motion dimensions, action units), `gripper` (share of
        decisions whose gripper commands differ in sign).
    """
    gap = (found.student - found.teacher).astype(float)
    motion = np.sqrt((gap[..., :6] ** 2).mean(axis=(0, 2)))
    gripper = (np.sign(found.student[..., 6]) != np.sign(found.teacher[..., 6])).mean(axis=0)
    return pd.DataFrame({"step": np.arange(motion.size), "motion": motion, "gripper": gripper})


def distance_overall(found: Decisions) -> tuple[float, float]:
    """(motion, gripper) as `distance_by_step` tells them, over all decisions and chunk steps: what was calibrated."""
    steps = distance_by_step(found)
    return float(np.sqrt((steps["motion"] ** 2).mean())), float(steps["gripper"].mean())
