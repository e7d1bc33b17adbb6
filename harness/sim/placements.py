"""Fresh placements: a task's objects drawn from the regions of its BDDL file, as LIBERO drew its init states.

LIBERO evaluates on 50 stored init states per task. Demonstrations that begin there would be trained on the test set, so
they begin at placements of their own: drawn by LIBERO's own samplers, from the same regions, under a key of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError
from harness.sim.engine import mujoco
from harness.sim.environment import seeded

ROBOT_NOISE_RAD = 0.02
"""Standard deviation of the arm's joints about their initial pose: robosuite's default, and what stored init states
show (0.016 to 0.023 over 50 of them)."""
MAX_DRAWS = 50
"""Draws until a placement is at rest after settling; nearly always the first is."""
AT_REST_M_S = 0.01
"""Largest speed of an object that counts as at rest, m/s; after settling, stored init states are below 0.002."""
SLIPPED_M = 0.10
"""Horizontal way from where an object was put beyond which it fell off something, m. Regions overlap, so that objects
push one another aside by up to 5 cm, in stored init states too."""
TILTED_RAD = 0.5
"""Turn from how an object was put beyond which it has toppled, rad; a bowl on a ramekin leans by 0.28."""


class PlacementSampler:
    """Draws start states of one environment. The same key gives the same state, whatever ran before."""

    def __init__(self, env: Any, key: str) -> None:
        """Bind to a freshly reset LIBERO environment.

        Args:
            env: The environment.
            key: What draws are keyed by besides their number: suite, task and placement seed.
        """
        self._env, self._key = env, key
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._arm = np.array(env.robots[0]._ref_joint_pos_indexes)
        self._fixtures = [
            (env.sim.model.body_name2id(item.root_body), *_unplaced(item)) for item in env.fixtures_dict.values()
        ]
        joints = [self._model.joint(item.joints[-1]) for item in env.objects_dict.values()]
        self._positions = np.array([joint.qposadr[0] for joint in joints], dtype=np.intp)
        self._speeds = np.array([joint.dofadr[0] for joint in joints], dtype=np.intp)
        self._put = self._poses()

    def draw(self, number: int, attempt: int) -> NDArray[np.float64]:
        """Draw a start state: places fixtures in the model, and returns what an init state would hold.

        Call it on a restored snapshot.

        Args:
            number: Which placement, from 0; any number is valid.
            attempt: Which draw of it, from 0.

        Returns:
            Time, qpos and qvel, shape (1 + nq + nv,).

        Raises:
            SimulatorError: LIBERO's samplers find no room for the objects.
        """
        from robosuite.utils.errors import RandomizationError

        digest = hashlib.sha256(f"{self._key}:{number}:{attempt}".encode()).digest()
        with seeded(0):
            np.random.seed(np.frombuffer(digest, dtype="<u4"))
            for _ in range(MAX_DRAWS):
                with contextlib.suppress(RandomizationError):
                    self._place()
                    break
            else:
                raise SimulatorError(f"LIBERO found no placement of the objects of {self._key} in {MAX_DRAWS} draws.")
            self._data.qpos[self._arm] += np.random.randn(len(self._arm)) * ROBOT_NOISE_RAD
        self._put = self._poses()
        return np.concatenate([[0.0], self._data.qpos, np.zeros(self._model.nv)])

    def at_rest(self) -> bool:
        """Whether, after settling, every object stands still about where and how it was put."""
        velocity = np.stack([self._data.qvel[self._speeds + axis] for axis in range(3)], axis=1)
        poses = self._poses()
        slipped = np.linalg.norm(poses[:, :2] - self._put[:, :2], axis=1)
        cosine = np.abs((poses[:, 3:] * self._put[:, 3:]).sum(axis=1))
        lengths = np.linalg.norm(poses[:, 3:], axis=1) * np.linalg.norm(self._put[:, 3:], axis=1)
        turned = 2 * np.arccos(np.clip(cosine / lengths, 0.0, 1.0))
        still = np.linalg.norm(velocity, axis=1) < AT_REST_M_S
        return bool((still & (slipped < SLIPPED_M) & (turned < TILTED_RAD)).all())

    def _poses(self) -> NDArray[np.float64]:
        """Position (3, m) and quaternion (4, wxyz) of every movable object, shape (objects, 7)."""
        return np.stack([self._data.qpos[self._positions + axis] for axis in range(7)], axis=1)

    def _place(self) -> None:
        """What LIBERO's `_reset_internal` does once robosuite has reset the robot."""
        env = self._env
        for body, position, quaternion in self._fixtures:
            # Samplers of objects inside fixtures take sites' poses to be those of a fixture at its model's origin.
            self._model.body_pos[body], self._model.body_quat[body] = position, quaternion
        for initializer in env.object_property_initializers:
            env.object_states_dict[initializer.name].set_joint(initializer.sample())
        mujoco.mj_step1(self._model, self._data)
        placements = env.placement_initializer.sample()
        placements = env.conditional_placement_initializer.sample(env.sim, placements)
        placements = env.conditional_placement_on_objects_initializer.sample(placements)
        for position, quaternion, item in placements.values():
            if item.name in env.fixtures_dict:
                body = env.sim.model.body_name2id(item.root_body)
                self._model.body_pos[body], self._model.body_quat[body] = position, quaternion
            else:
                env.sim.data.set_joint_qpos(item.joints[-1], np.concatenate([position, quaternion]))


def _unplaced(item: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position (3, m) and quaternion (4, wxyz) of a fixture's root body before LIBERO places it."""
    body = item.get_obj()
    return (
        np.array(body.get("pos", "0 0 0").split(), dtype=np.float64),
        np.array(body.get("quat", "1 0 0 0").split(), dtype=np.float64),
    )
