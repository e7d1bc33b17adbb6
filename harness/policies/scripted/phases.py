"""The expert's phases: a small state machine over what it sees, one control step at a time."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from harness.policies.scripted.recipes import HEIGHTS, Job
from harness.spec.observation import Observation

Vector = NDArray[np.float64]

OPENED, CLOSED = 0, 8
"""Ends of `Expert.closure`. The gripper integrates the sign of its action, 0.25 of its range of 2 in a control step
(robosuite 1.4.0, PandaGripper), so that eight steps close it, and action 0 holds it where it is."""

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
TURN_GAIN = np.array([0.4, 0.4, 1.5])
"""Commanded turn per error, about world x, y and z. Soft against tilt: OSC_POSE weighs position and rotation apart, and
near the end of its reach a stiff wrist cancels the pull on the hand, which then stands still beside its target."""

DOWN = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
"""Gripper pointing at the table, fingers closing along world y: close to where every episode starts."""

ARRIVED = 0.008
"""Distance at which a waypoint counts as reached, m: below what a rim or a can forgives (about 1 cm)."""
HELD = 0.5
"""An object that rose by at least this share of the hand's rise is in the hand."""
LIFT = 0.08
"""Least height to lift an object before it travels, m: out of a drawer, off a stove."""
CLOSING_STEPS = 3
"""Control steps until closing fingers move at all."""
STILL = 0.001
"""Fingers that close by less than this in a control step, m, hold something (free ones close by 9 mm)."""
OPENING_STEPS = 8
"""Control steps until the fingers are open again."""
PALM = (0.032, 0.102)
"""Half extents of the palm across and along the way the fingers close, m."""
PALM_HEIGHT = 0.04
"""Of the palm over the point between the fingertips, m."""
CLEARANCE = 0.042
"""Least distance from the palm to the axis of a neighbour, m: the widest bottle's half width and a centimetre."""


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


PATIENCE = {
    Phase.APPROACH: 80,
    Phase.DESCEND: 30,
    Phase.CLOSE: 15,
    Phase.LIFT: 20,
    Phase.CARRY: 80,
    Phase.LOWER: 50,
    Phase.RELEASE: 15,
    Phase.RETREAT: 15,
}
"""Control steps, twice what a phase needs, after which the hand retreats and begins anew."""


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
    gap: float
    """Distance between the fingers."""
    poses: Mapping[str, Vector]
    """Every body's pose, as observed."""
    velocity: Vector
    """Of the hand, m/s; zero at first."""
    closing: float
    """Change of the gap since the last step; zero at first."""

    @classmethod
    def of(cls, observation: Observation, job: Job, last: Scene | None) -> Scene:
        """Read the scene of a job from an observation; `last` is the scene one control step ago."""
        state = observation.state.astype(np.float64)
        hand, gap = state[:3], float(state[6] - state[7])
        return cls(
            hand=hand,
            orientation=Rotation.from_rotvec(state[3:6]),
            thing=observation.privileged[job.grasp.body][:3].copy(),
            place=observation.privileged[job.place.body][:3].copy(),
            gap=gap,
            poses=observation.privileged,
            velocity=np.zeros(3) if last is None else (hand - last.hand) / CONTROL_S,
            closing=0.0 if last is None else gap - last.gap,
        )


@dataclass(slots=True)
class Expert:
    """One episode's worth of expert."""

    job: Job
    phase: Phase = Phase.APPROACH
    steps: int = 0
    """Control steps spent in the phase."""
    last: Scene | None = None
    """The scene one control step ago."""
    closure: int = OPENED
    """Control steps by which the fingers were told to close, net of those to open; every episode starts open."""
    attempts: int = 0
    """Approaches begun."""
    turn: float | None = None
    """Of the hand about the vertical in this attempt, rad; None before the first."""
    grasp_point: Vector = field(default_factory=lambda: np.zeros(3))
    """Where the fingers close."""
    resting: tuple[float, float] = (0.0, 0.0)
    """Heights of the hand and of the object's origin when lifting began."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Decide one action, shape (7,)."""
        scene = Scene.of(observation, self.job, self.last)
        if self.turn is None:
            self.turn = self._choose_turn(scene)
        self._advance(scene)
        self.steps += 1
        target, closure = self._goal(scene)
        fingers = int(np.sign(closure - self.closure))
        self.closure += fingers
        self.last = scene
        return command(scene, target, self.turn, fingers)

    def _choose_turn(self, scene: Scene) -> float:
        """The turn of the hand for this attempt: the next best of those that keep the palm off the neighbours."""
        grasp = self.job.grasp
        base = 0.0
        if grasp.along is not None:
            base = wrap(yaw_of(scene.poses[grasp.along]) - np.pi / 2)
        point = scene.thing + grasp.offset
        tall = [
            scene.poses[name][:2] - point[:2]
            for name, above in HEIGHTS.items()
            if name in scene.poses and name != grasp.body and scene.poses[name][2] + above > point[2] + PALM_HEIGHT
        ]
        clear = [base + turn for turn in grasp.turns if all(palm_distance(turn, each) > CLEARANCE for each in tall)]
        turns = clear or [base + turn for turn in grasp.turns]
        return float(turns[self.attempts % len(turns)])

    def _point(self, scene: Scene) -> Vector:
        """Where to close the fingers."""
        offset: Vector = Rotation.from_euler("z", self.turn or 0.0).apply(self.job.grasp.offset)
        return scene.thing + offset

    def _enter(self, phase: Phase) -> None:
        self.phase, self.steps = phase, 0

    def _advance(self, scene: Scene) -> None:
        """Leave phases that are done; several may be, at once."""
        while (following := self._next(scene)) is not self.phase:
            if following is Phase.APPROACH:
                self.attempts += 1
                self.turn = self._choose_turn(scene)
            if following is Phase.CLOSE:
                self.grasp_point = self._point(scene)
            if following is Phase.LIFT:
                self.resting = (float(scene.hand[2]), float(scene.thing[2]))
            self._enter(following)

    def _next(self, scene: Scene) -> Phase:
        """The phase after this one when this one is done, else this one."""
        if self.steps > PATIENCE[self.phase]:
            return Phase.APPROACH if self.phase is Phase.RETREAT else Phase.RETREAT
        grasp, place = self.job.grasp, self.job.place
        point = self._point(scene)
        bottom = scene.thing[2] - grasp.below - scene.place[2]
        aside = float(np.linalg.norm(scene.thing[:2] - scene.place[:2]))
        match self.phase:
            case Phase.APPROACH if np.linalg.norm((scene.hand - point)[:2]) < 2 * ARRIVED:
                return Phase.DESCEND
            case Phase.DESCEND if np.linalg.norm(scene.hand - point) < ARRIVED:
                return Phase.CLOSE
            case Phase.CLOSE if self.steps >= CLOSING_STEPS and abs(scene.closing) < STILL:
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

    def _goal(self, scene: Scene) -> tuple[Vector, int]:
        """Where the hand shall go, and how far the fingers shall close."""
        grasp, place = self.job.grasp, self.job.place
        point = self._point(scene)
        bottom = scene.thing[2] - grasp.below
        over = scene.place[:2] - scene.thing[:2]
        match self.phase:
            case Phase.APPROACH:
                return point + up(grasp.hover), grasp.spread
            case Phase.DESCEND:
                return point, CLOSED if scene.hand[2] - point[2] < grasp.early else grasp.spread
            case Phase.CLOSE:
                return self.grasp_point, CLOSED
            case Phase.LIFT:
                return self.grasp_point + up(LIFT), CLOSED
            case Phase.CARRY:
                height = max(scene.place[2] + place.carry, self.resting[1] - grasp.below + LIFT)
                rise = height - bottom
                # Travel only as far as the height allows: a low object would hit the rim of the place.
                pace = np.clip(1 - (rise - 0.01) / 0.06, 0.0, 1.0)
                return scene.hand + np.append(pace * over, rise), CLOSED
            case Phase.LOWER:
                return scene.hand + np.append(over, scene.place[2] + place.release - 0.02 - bottom), CLOSED
            case Phase.RELEASE:
                return scene.hand, OPENED
            case Phase.RETREAT:
                return scene.hand + up(0.05), OPENED


def up(height: float) -> Vector:
    """The vector that points up by `height`, m."""
    return np.array([0.0, 0.0, height])


def yaw_of(pose: Vector) -> float:
    """Heading of a body's x axis, rad."""
    axis = Rotation.from_quat(pose[3:], scalar_first=True).apply([1.0, 0.0, 0.0])
    return float(np.arctan2(axis[1], axis[0]))


def wrap(turn: float) -> float:
    """The equivalent turn of a two-fingered hand in [-π/2, π/2), rad."""
    return float((turn + np.pi / 2) % np.pi - np.pi / 2)


def palm_distance(turn: float, neighbour: Vector) -> float:
    """Horizontal distance from the palm, turned by `turn`, to a point given from its middle, m."""
    across, along = np.abs(Rotation.from_euler("z", -turn).apply([*neighbour, 0.0])[:2])
    return float(np.hypot(max(across - PALM[0], 0.0), max(along - PALM[1], 0.0)))


def command(scene: Scene, target: Vector, turn: float, fingers: float) -> NDArray[np.float32]:
    """Turn a target into an action: proportional and damped, saturated, gripper straight down.

    Returns:
        Shape (7,), in [-1, 1].
    """
    move = GAIN * (target - scene.hand) - DAMPING_S * scene.velocity
    error = (Rotation.from_euler("z", turn) * DOWN * scene.orientation.inv()).as_rotvec()
    motion = np.concatenate([move / METRES_PER_ACTION, TURN_GAIN * error / RADIANS_PER_ACTION])
    return np.append(np.clip(motion, -1.0, 1.0), fingers).astype(np.float32)
