"""Where objects and fixtures stand when an episode begins, drawn by LIBERO's own samplers.

A stored init state holds every joint, but fixtures (cabinets, stoves, racks, caddies, microwaves) have none: LIBERO
draws where they stand from numpy's global generator at every reset, within some 2 cm. So the seed of that generator
decides a part of every scene, and each evaluator seeds it in its own way: `EvaluatorPlacements`.

Demonstrations that began at the 50 stored init states would be trained on the test set, so they begin at placements of
their own, drawn from the same regions under a key of their own: `PlacementSampler`.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError
from harness.sim.engine import mujoco
from harness.sim.environment import seeded
from harness.sim.snapshot import Snapshot

ROBOT_NOISE_RAD = 0.02
"""Standard deviation of the arm's joints about their initial pose: robosuite's default, and what stored init states
show (0.016 to 0.023 over 50 of them)."""
MAX_DRAWS = 50
"""Draws until a placement is at rest after settling, and resets until LIBERO's samplers find room for every object;
nearly always the first is."""
AT_REST_M_S = 0.01
"""Largest speed of an object that counts as at rest, m/s; after settling, stored init states are below 0.002."""
SLIPPED_M = 0.10
"""Horizontal way from where an object was put beyond which it fell off something, m. Regions overlap, so that objects
push one another aside by up to 5 cm, in stored init states too."""
TILTED_RAD = 0.5
"""Turn from how an object was put beyond which it has toppled, rad; a bowl on a ramekin leans by 0.28."""
_ROUNDS = {"fixed": 2, "per_episode": 3, "per_task": 2}
"""Seeding → how often LIBERO draws doors, drawers and knobs in an environment's first episode, see `SceneSampler`: once
more for each time that the environment was built or reset by then. LeRobot resets it once between the two."""


class SceneSampler:
    """LIBERO's part of a reset: what follows in `BDDLBaseDomain._reset_internal` when the robot has been reset."""

    def __init__(self, env: Any) -> None:
        """Bind to an environment in which nothing is placed yet (`harness.sim.environment.open_task`)."""
        self._env = env
        self._model, self._data = env.sim.model._model, env.sim.data._data
        # LIBERO appends its samplers of doors, drawers and knobs to a list at every reset and never empties it. The
        # environment has been built and reset once each, so the list holds every sampler twice.
        self._articulations = env.object_property_initializers[: len(env.object_property_initializers) // 2]
        bodies = [env.sim.model.body_name2id(item.root_body) for item in env.fixtures_dict.values()]
        self._unplaced = [
            (body, self._model.body_pos[body].copy(), self._model.body_quat[body].copy()) for body in bodies
        ]

    def place(self, rounds: int) -> None:
        """Draw from numpy's global generator, and put fixtures into the model and objects into qpos.

        Args:
            rounds: How often every door, drawer and knob is drawn: as often as LIBERO's list holds it by now. All but
                the last draw have no effect but on what is drawn after them.

        Raises:
            robosuite.utils.errors.RandomizationError: There is no room for an object; LIBERO then resets once more.
        """
        env = self._env
        for body, position, quaternion in self._unplaced:
            # Samplers of objects inside fixtures take sites' poses to be those of a fixture at its model's origin.
            self._model.body_pos[body], self._model.body_quat[body] = position, quaternion
        for _ in range(rounds):
            for sampler in self._articulations:
                env.object_states_dict[sampler.name].set_joint(sampler.sample())
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


@dataclass(frozen=True, slots=True)
class _Moment:
    """Where an evaluator's reset begins to draw."""

    generator: Any
    """State of numpy's global generator."""
    rounds: int
    """See `SceneSampler.place`."""


class EvaluatorPlacements:
    """Leaves a task's environment as an evaluator's reset leaves it, without rebuilding anything.

    Every draw of the reset is made in its order, by LIBERO's own samplers, from numpy's global generator seeded as that
    evaluator seeds it; equal to the bit, down to the warm start of MuJoCo's solver (`tests/sim/test_exactness.py`).
    """

    def __init__(self, env: Any, sampler: SceneSampler, *, seeding: str, seed: int, task: str) -> None:
        """Bind to an environment in which nothing is placed yet.

        Args:
            env: The environment.
            sampler: Its sampler.
            seeding: When the generator is seeded; see `Protocol.placement_seeding`.
            seed: With what; see there.
            task: Suite and task, for messages.
        """
        self._sampler, self._unplaced = sampler, Snapshot(env)
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._arm = len(env.robots[0].init_qpos)
        self._seeding, self._seed, self._task = seeding, seed, task
        self._running: list[_Moment] = []

    def place(self, episode: int) -> None:
        """Reset the environment for the evaluator's `episode`-th episode of the task, from 0.

        Raises:
            SimulatorError: LIBERO's samplers find no room for the objects.
        """
        with seeded(0):
            moment = self._before(episode)
            np.random.set_state(moment.generator)
            self._reset(moment.rounds)
        mujoco.mj_forward(self._model, self._data)

    def _before(self, episode: int) -> _Moment:
        rounds = _ROUNDS[self._seeding]
        if self._seeding == "per_task":
            return self._run_on_to(episode)
        if self._seeding == "per_episode":
            np.random.seed(self._seed + episode)
            return _Moment(np.random.get_state(), rounds + episode)
        np.random.seed(self._seed)
        return _Moment(np.random.get_state(), rounds)

    def _run_on_to(self, episode: int) -> _Moment:
        """Where a generator that was seeded once stands: after the draws of all episodes before."""
        if not self._running:
            np.random.seed(self._seed)
            self._running.append(_Moment(np.random.get_state(), _ROUNDS["per_task"]))
        while len(self._running) <= episode:
            last = self._running[-1]
            np.random.set_state(last.generator)
            rounds = self._reset(last.rounds)
            self._running.append(_Moment(np.random.get_state(), rounds + 1))
        return self._running[episode]

    def _reset(self, rounds: int) -> int:
        """Reset until the samplers find room, as LIBERO does: the rounds that the last attempt took."""
        from robosuite.utils.errors import RandomizationError

        for attempt in range(MAX_DRAWS):
            self._unplaced.restore()
            # robosuite's noise on the arm's joints, which LIBERO multiplies by 0.
            np.random.randn(self._arm)
            with contextlib.suppress(RandomizationError):
                self._sampler.place(rounds + attempt)
                return rounds + attempt
        raise SimulatorError(f"LIBERO found no placement of the objects of {self._task} in {MAX_DRAWS} draws.")


class PlacementSampler:
    """Draws start states of one environment. The same key gives the same state, whatever ran before."""

    def __init__(self, env: Any, sampler: SceneSampler, key: str) -> None:
        """Bind to an environment.

        Args:
            env: The environment.
            sampler: Its sampler.
            key: What draws are keyed by besides their number: suite, task and placement seed.
        """
        self._sampler, self._key = sampler, key
        self._model, self._data = env.sim.model._model, env.sim.data._data
        self._arm = np.array(env.robots[0]._ref_joint_pos_indexes)
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
                    self._sampler.place(_ROUNDS["fixed"])
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
