"""The expert's phases: a small state machine over what it sees, one control step at a time."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from harness.policies.scripted.recipes import Job
from harness.spec.observation import Observation

Vector = NDArray[np.float64]

OPEN, CLOSE = -1.0, 1.0

METRES_PER_ACTION = 0.05
"""Position delta of action 1.0 (robosuite 1.4.0, OSC_POSE `output_max`)."""
RADIANS_PER_ACTION = 0.5
"""Rotation delta of action 1.0 (same)."""
GAIN = 2.5
"""Commanded over actual error. The controller covers about a quarter of a delta in a control step, so that 1 crawls."""
DOWN = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
"""Gripper pointing at the table, fingers closing along world y: close to where every episode starts."""

ARRIVED = 0.008
"""Distance at which a waypoint counts as reached, m: below what a rim or a can forgives (about 1 cm)."""
HELD = 0.5
"""An object that rose by at least this share of the hand's rise is in the hand."""
LIFT = 0.08
"""Least height to lift an object before it travels, m: out of a drawer, off a stove."""
OPENING_STEPS = 8
"""Control steps until the fingers are open again."""
PATIENCE = 60
"""Control steps after which a phase that does not end starts the episode's work anew."""


class Phase(enum.Enum):
    """What the arm is doing."""

    APPROACH = enum.auto()
    DESCEND = enum.auto()
    CLOSE = enum.auto()
    LIFT = enum.auto()
    CARRY = enum.auto()
    LOWER = enum.auto()
    RELEASE = enum.auto()
    RETREAT = enum.auto()


@dataclass(frozen=True, slots=True)
class Scene:
    """What matters of an observation, in metres and the world frame."""

    hand: Vector
    """Point between the fingertips."""
    orientation: Rotation
    thing: Vector
    """Origin of the object."""
    place: Vector
    """Origin of the place."""

    @classmethod
    def of(cls, observation: Observation, job: Job) -> Scene:
        """Read the scene of a job from an observation."""
        state = observation.state.astype(np.float64)
        return cls(
            hand=state[:3],
            orientation=Rotation.from_rotvec(state[3:6]),
            thing=observation.privileged[job.grasp.body][:3].copy(),
            place=observation.privileged[job.place.body][:3].copy(),
        )


@dataclass(slots=True)
class Expert:
    """One episode's worth of expert."""

    job: Job
    phase: Phase = Phase.APPROACH
    steps: int = 0
    """Control steps spent in the phase."""
    attempts: int = 0
    """Grasps begun."""
    grasp_point: Vector = field(default_factory=lambda: np.zeros(3))
    """Where the fingers close."""
    resting: tuple[float, float] = (0.0, 0.0)
    """Heights of the hand and of the object's origin when lifting began."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Decide one action, shape (7,)."""
        scene = Scene.of(observation, self.job)
        self._advance(scene)
        self.steps += 1
        target, fingers = self._goal(scene)
        return command(scene, target, fingers)

    def _enter(self, phase: Phase) -> None:
        self.phase, self.steps = phase, 0

    def _advance(self, scene: Scene) -> None:
        """Leave phases that are done; several may be, at once."""
        while (following := self._next(scene)) is not self.phase:
            if following is Phase.CLOSE:
                self.attempts += 1
                self.grasp_point = scene.thing + self.job.grasp.offset
            if following is Phase.LIFT:
                self.resting = (float(scene.hand[2]), float(scene.thing[2]))
            self._enter(following)

    def _next(self, scene: Scene) -> Phase:
        """The phase after this one when this one is done, else this one."""
        if self.steps > PATIENCE:
            return Phase.APPROACH if self.phase is Phase.RETREAT else Phase.RETREAT
        grasp, place = self.job.grasp, self.job.place
        point = scene.thing + grasp.offset
        bottom = scene.thing[2] - grasp.below - scene.place[2]
        aside = float(np.linalg.norm(scene.thing[:2] - scene.place[:2]))
        match self.phase:
            case Phase.APPROACH if np.linalg.norm((scene.hand - point)[:2]) < 2 * ARRIVED:
                return Phase.DESCEND
            case Phase.DESCEND if np.linalg.norm(scene.hand - point) < ARRIVED:
                return Phase.CLOSE
            case Phase.CLOSE if self.steps >= grasp.close_steps:
                return Phase.LIFT
            case Phase.LIFT if (risen := scene.hand[2] - self.resting[0]) > LIFT / 2:
                held = scene.thing[2] - self.resting[1] > HELD * risen
                return Phase.CARRY if held else Phase.RETREAT
            case Phase.CARRY if aside < place.tolerance:
                return Phase.LOWER
            case Phase.LOWER if bottom < place.release:
                return Phase.RELEASE
            case Phase.RELEASE if self.steps >= OPENING_STEPS:
                return Phase.RETREAT
            case Phase.RETREAT if self.steps >= OPENING_STEPS:
                return Phase.APPROACH
        return self.phase

    def _goal(self, scene: Scene) -> tuple[Vector, float]:
        """Where the hand shall go, and what the fingers shall do."""
        grasp, place = self.job.grasp, self.job.place
        point = scene.thing + grasp.offset
        bottom = scene.thing[2] - grasp.below
        over = scene.place[:2] - scene.thing[:2]
        match self.phase:
            case Phase.APPROACH:
                return point + up(grasp.hover), OPEN
            case Phase.DESCEND:
                return point, CLOSE if scene.hand[2] - point[2] < grasp.early else OPEN
            case Phase.CLOSE:
                return self.grasp_point, CLOSE
            case Phase.LIFT:
                return self.grasp_point + up(LIFT), CLOSE
            case Phase.CARRY:
                height = max(scene.place[2] + place.carry, self.resting[1] - grasp.below + LIFT)
                rise = height - bottom
                # Travel only as far as the height allows: a low object would hit the rim of the place.
                pace = np.clip(1 - (rise - 0.01) / 0.06, 0.0, 1.0)
                return scene.hand + np.append(pace * over, rise), CLOSE
            case Phase.LOWER:
                return scene.hand + np.append(over, scene.place[2] + place.release - 0.02 - bottom), CLOSE
            case Phase.RELEASE:
                return scene.hand, OPEN
            case Phase.RETREAT:
                return scene.hand + up(0.05), OPEN


def up(height: float) -> Vector:
    """The vector that points up by `height`, m."""
    return np.array([0.0, 0.0, height])


def command(scene: Scene, target: Vector, fingers: float) -> NDArray[np.float32]:
    """Turn a target into an action: proportional, saturated, gripper straight down.

    Returns:
        Shape (7,), in [-1, 1].
    """
    turn = (DOWN * scene.orientation.inv()).as_rotvec()
    motion = np.concatenate([(target - scene.hand) / METRES_PER_ACTION, turn / RADIANS_PER_ACTION])
    return np.append(np.clip(GAIN * motion, -1.0, 1.0), fingers).astype(np.float32)
