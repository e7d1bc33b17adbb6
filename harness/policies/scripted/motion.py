"""From a place to be to an action: a servo tuned to LIBERO's OSC_POSE controller, and the geometry of the hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Vector = NDArray[np.float64]

METRES_PER_ACTION = 0.05
"""Position delta of action 1.0 (robosuite 1.4.0, OSC_POSE `output_max`)."""
RADIANS_PER_ACTION = 0.5
"""Rotation delta of action 1.0 (same)."""
CONTROL_S = 0.05
"""One control step at LIBERO's 20 Hz, s."""
GAIN, DAMPING_S = 2.34, 0.078
"""Commanded delta per error and per velocity. OSC_POSE is a critically damped spring, kp 150 per s²: over a control
step a delta D moves a hand of velocity v by 0.126 D + 0.027 s × v and leaves it with 4.07 D/s + 0.21 v. These gains put
both poles of that loop at 0.3: the error falls to a third at each step and does not overshoot."""
TURN_GAIN = np.array([0.2, 0.2, 1.5])
"""Commanded turn per error, about world x, y and z. Soft against tilt: OSC_POSE weighs position and rotation apart, and
near the end of its reach a stiff wrist cancels the pull on the hand, which then stands still beside its target."""
DOWN = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
"""Gripper pointing at the table, fingers closing along world y: close to where every episode starts."""

PALM = (0.032, 0.102)
"""Half extents of the palm across and along the way the fingers close, m."""
PALM_HEIGHT = 0.04
"""Of the palm over the point between the fingertips, m."""


def command(
    offset: Vector, velocity: Vector, orientation: Rotation, turn: float, fingers: float
) -> NDArray[np.float32]:
    """Turn the way to a target into an action: proportional and damped, saturated, gripper pointing down.

    Args:
        offset: From the hand to the target, shape (3,), m.
        velocity: Of the hand, shape (3,), m/s.
        orientation: Of the hand, in the world.
        turn: Wanted turn of the hand about the vertical, rad; half turns make no difference.
        fingers: -1 opens, 1 closes, 0 holds.

    Returns:
        Shape (7,), in [-1, 1].
    """
    wanted = Rotation.from_euler("z", half_turn(turn)) * DOWN
    error = (wanted * orientation.inv()).as_rotvec()
    move = (GAIN * offset - DAMPING_S * velocity) / METRES_PER_ACTION
    motion = np.concatenate([move, TURN_GAIN * error / RADIANS_PER_ACTION])
    return np.append(np.clip(motion, -1.0, 1.0), fingers).astype(np.float32)


def up(height: float) -> Vector:
    """The vector that points up by `height`, m."""
    return np.array([0.0, 0.0, height])


def turned(vector: tuple[float, float, float], turn: float) -> Vector:
    """A vector turned about the vertical by `turn`, rad."""
    result: Vector = Rotation.from_euler("z", turn).apply(vector)
    return result


def heading(pose: Vector) -> float:
    """Direction of a body's x axis on the table, rad. `pose`: position (3, m) and quaternion (4, wxyz)."""
    axis = Rotation.from_quat(pose[3:], scalar_first=True).apply([1.0, 0.0, 0.0])
    return float(np.arctan2(axis[1], axis[0]))


def half_turn(turn: float) -> float:
    """The turn in [-π/2, π/2) that looks the same for a hand of two equal fingers, rad."""
    return float((turn + np.pi / 2) % np.pi - np.pi / 2)


def palm_distance(turn: float, point: Vector) -> float:
    """Horizontal distance from the palm to a point, m.

    Args:
        turn: Of the hand about the vertical, rad.
        point: Seen from the middle of the palm, shape (2,), world axes, m.
    """
    across, along = np.abs(turned((float(point[0]), float(point[1]), 0.0), -turn)[:2])
    return float(np.hypot(max(across - PALM[0], 0.0), max(along - PALM[1], 0.0)))
