"""What robosuite's observables would hold, read only when it would read them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.worlds.base import SimConfig

TIMESTEP = 0.002
"""robosuite's physics timestep, seconds."""
GEOMETRY_SUFFIX = "/geometry"
"""Key suffix of an object's geometry in `Observation.privileged`: bottom offset (3, m), top offset (3, m), horizontal
radius (1, m), in the object's frame."""


def substeps(control_hz: int) -> int:
    """Number of physics substeps of a control step, as robosuite rounds it."""
    return int((1.0 / control_hz) / TIMESTEP)


def sample_substep(control_hz: int) -> int:
    """Number of substeps of a control step after which robosuite samples its observables, cameras included.

    An observable counts time by adding the timestep and samples at most once per period. Two forced updates (one in
    `reset`, one when the init state is set) shift its phase, so that at 20 Hz it samples after substep 24 of 25, in
    every control step. At rates that do not divide the physics rate the phase drifts, some steps have no sample at all,
    and a policy would be shown an old frame: such rates are refused.

    Raises:
        UsageError: At this rate samples do not fall once in every control step, at the same substep.
    """
    if control_hz <= 0:
        raise UsageError(f"control_hz is {control_hz}; LIBERO runs at 20 Hz.")
    seen = _sampled_substeps(control_hz, steps=1000)
    if len(set(seen)) != 1 or len(seen[0]) != 1:
        raise UsageError(
            f"At control_hz={control_hz} robosuite samples its cameras irregularly. "
            "Use 20 (LIBERO's), or 5, 10, 25 or 50."
        )
    return seen[0][0]


def _sampled_substeps(control_hz: int, steps: int) -> list[tuple[int, ...]]:
    """Replay an observable's clock (`robosuite.utils.observables.Observable.update`) in its own floating point."""
    period, clock, sampled = 1.0 / control_hz, 2 * TIMESTEP, True
    seen = []
    for _ in range(steps):
        here = []
        for substep in range(substeps(control_hz)):
            clock += TIMESTEP
            if not sampled and period >= clock:
                here.append(substep + 1)
                sampled = True
            if clock >= period:
                if not sampled:
                    here.append(substep + 1)
                clock %= period
                sampled = False
        seen.append(tuple(here))
    return seen


class Sensors:
    """Proprioception and object poses of an environment, held as of the last sample."""

    def __init__(self, env: Any, config: SimConfig) -> None:
        """Resolve names to indices once."""
        robot = env.robots[0]
        self._eef_site = robot.eef_site_id
        self._eef_body = env.sim.model.body_name2id(robot.robot_model.eef_name)
        self._fingers = np.array(robot._ref_gripper_joint_pos_indexes)
        self._eef_pos, self._eef_quat, self._gripper = np.zeros(3), np.zeros(4), np.zeros(2)
        items = {**env.objects_dict, **env.fixtures_dict} if config.privileged else {}
        self._bodies = list(items)
        self._body_ids = np.array([env.obj_body_id[name] for name in items], dtype=np.intp)
        sites = (
            [name for name in env.object_sites_dict if name in env.sim.model.site_names] if config.privileged else []
        )
        self._sites = sites
        self._site_ids = np.array([env.sim.model.site_name2id(name) for name in sites], dtype=np.intp)
        self._geometry = {f"{name}{GEOMETRY_SUFFIX}": _geometry(item) for name, item in items.items()}
        self._body_poses, self._site_poses = np.zeros((len(items), 7)), np.zeros((len(sites), 12))
        self._privileged = config.privileged

    def sample(self, data: Any) -> None:
        """Read the present values (a few copies: cheap enough for every control step)."""
        self._eef_pos = data.site_xpos[self._eef_site].copy()
        self._eef_quat = data.xquat[self._eef_body].copy()
        self._gripper = data.qpos[self._fingers]
        if self._privileged:
            self._body_poses = np.hstack([data.xpos[self._body_ids], data.xquat[self._body_ids]])
            self._site_poses = np.hstack([data.site_xpos[self._site_ids], data.site_xmat[self._site_ids]])

    def eef_position(self, data: Any) -> NDArray[np.float64]:
        """Present position of the end effector, shape (3,), metres, a copy."""
        return np.array(data.site_xpos[self._eef_site])

    def state(self) -> NDArray[np.float32]:
        """Proprioception, shape (8,): end-effector position, axis-angle, gripper qpos."""
        parts = [self._eef_pos, axis_angle(self._eef_quat), self._gripper]
        return np.concatenate(parts).astype(np.float32)

    def privileged(self) -> dict[str, NDArray[np.float64]]:
        """Name → pose (7,): every object and fixture (root body), every named region (site), and "robot0_eef".

        Beside each object and fixture stands its geometry, under the name with `GEOMETRY_SUFFIX`.
        """
        poses = dict(zip(self._bodies, self._body_poses, strict=True))
        for name, pose in zip(self._sites, self._site_poses, strict=True):
            poses[name] = np.concatenate([pose[:3], _quaternion(pose[3:])])
        poses["robot0_eef"] = np.concatenate([self._eef_pos, self._eef_quat])
        return {**poses, **self._geometry}


def _geometry(item: Any) -> NDArray[np.float64]:
    values = [*item.bottom_offset, *item.top_offset, item.horizontal_radius]
    return np.array(values, dtype=np.float64)


def _quaternion(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    from harness.sim.engine import mujoco

    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix))
    return quaternion


def axis_angle(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis-angle (3, rad) of a quaternion (4, wxyz), as openpi's evaluator computes it."""
    w = min(max(float(quaternion[0]), -1.0), 1.0)
    denominator = math.sqrt(1.0 - w * w)
    if math.isclose(denominator, 0.0):
        return np.zeros(3)
    vector: NDArray[np.float64] = quaternion[1:] * 2.0 * math.acos(w) / denominator
    return vector
