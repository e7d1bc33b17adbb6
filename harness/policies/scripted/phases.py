"""The expert's phases: a small state machine over what it sees, one control step at a time."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from harness.policies.scripted.motion import (
    CONTROL_S,
    PALM_HEIGHT,
    Vector,
    command,
    half_turn,
    heading,
    palm_distance,
    turned,
    up,
)
from harness.policies.scripted.recipes import HEIGHTS, Grasp, Job
from harness.spec.observation import Observation

OPENED, CLOSED = 0, 8
"""Ends of `Expert.closure`. The gripper integrates the sign of its action, 0.25 of its range of 2 in a control step
(robosuite 1.4.0, PandaGripper), so that eight steps close it, and action 0 holds it where it is."""

ARRIVED = 0.008
"""Distance at which a waypoint counts as reached, m: below what a rim or a can forgives (about 1 cm)."""
CLEARANCE = 0.042
"""Least distance from the palm to the axis of a tall neighbour, m: the widest bottle's half width and a centimetre."""
LIFT = 0.08
"""Height to lift an object before it travels, m: out of a drawer, off a stove."""
HELD = 0.5
"""An object that rose by at least this share of the hand's rise is in the hand."""
DROPPED = 0.10
"""Distance between hand and object beyond which it is no longer in the hand, m; held ones are within 7 cm."""
CLEAR = 0.12
"""Distance from where it was lifted after which a high object may sink towards the table, m."""
CLOSING_STEPS = 3
"""Control steps until closing fingers move at all."""
STILL = 0.001
"""Fingers that close by less than this in a control step, m, hold something (free ones close by 9 mm)."""


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
    Phase.RELEASE: 8,
    Phase.RETREAT: 8,
}
"""Control steps after which a phase ends whatever it achieved: twice what a motion needs, and what the fingers need to
open. The hand then retreats and begins again."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What matters of an observation, in metres and the world frame."""

    hand: Vector
    """Point between the fingertips."""
    orientation: Rotation
    velocity: Vector
    """Of the hand, m/s; zero at first."""
    gap: float
    """Distance between the fingers."""
    closing: float
    """By how much the gap shrank since the last step; zero at first."""
    thing: Vector
    """Origin of the object."""
    place: Vector
    """Origin of the place."""
    poses: Mapping[str, Vector]
    """Every body's pose, as observed."""

    @classmethod
    def of(cls, observation: Observation, job: Job, last: Scene | None) -> Scene:
        """Read the scene of a job from an observation; `last` is the scene one control step ago."""
        state = observation.state.astype(np.float64)
        hand, gap = state[:3], float(state[6] - state[7])
        return cls(
            hand=hand,
            orientation=Rotation.from_rotvec(state[3:6]),
            velocity=np.zeros(3) if last is None else (hand - last.hand) / CONTROL_S,
            gap=gap,
            closing=0.0 if last is None else last.gap - gap,
            thing=observation.privileged[job.grasp.body][:3].copy(),
            place=observation.privileged[job.place.body][:3].copy(),
            poses=observation.privileged,
        )

    @property
    def aside(self) -> float:
        """Horizontal distance from the object to its place."""
        return float(np.linalg.norm((self.place - self.thing)[:2]))


@dataclass(slots=True)
class Expert:
    """One episode's worth of expert."""

    job: Job
    phase: Phase = Phase.APPROACH
    steps: int = 0
    """Control steps spent in the phase."""
    attempts: int = 0
    """Grasps that came to nothing."""
    closure: int = OPENED
    """Control steps by which the fingers were told to close, net of those to open; every episode starts open."""
    turn: float | None = None
    """Of the hand about the vertical in this attempt, rad; None before the first."""
    last: Scene | None = None
    """The scene one control step ago."""
    lifted: Scene | None = None
    """The scene when lifting began."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Decide one action, shape (7,)."""
        scene = Scene.of(observation, self.job, self.last)
        if self.turn is None:
            self.turn = choose_turn(self.job.grasp, scene, self.attempts)
        while (following := self._next(scene)) is not self.phase:
            self._enter(following, scene)
        self.steps += 1
        target, closure = self._goal(scene)
        fingers = int(np.sign(closure - self.closure))
        self.closure += fingers
        self.last = scene
        return command(target - scene.hand, scene.velocity, scene.orientation, self.turn, fingers)

    def _enter(self, phase: Phase, scene: Scene) -> None:
        self.phase, self.steps = phase, 0
        if phase is Phase.LIFT:
            self.lifted = scene
        elif phase is Phase.APPROACH:
            self.attempts += 1
            self.turn = choose_turn(self.job.grasp, scene, self.attempts)

    def _next(self, scene: Scene) -> Phase:
        """The phase after this one when this one is done, else this one."""
        to_grasp = self._grasp_point(scene) - scene.hand
        match self.phase:
            case Phase.APPROACH if np.linalg.norm(to_grasp[:2]) < 2 * ARRIVED:
                return Phase.DESCEND
            case Phase.DESCEND if np.linalg.norm(to_grasp) < ARRIVED:
                return Phase.CLOSE
            case Phase.CLOSE if self.steps >= CLOSING_STEPS and scene.closing < STILL:
                return Phase.LIFT
            case Phase.LIFT if self.lifted and (rise := (scene.hand - self.lifted.hand)[2]) > LIFT / 2:
                return Phase.CARRY if (scene.thing - self.lifted.thing)[2] > HELD * rise else Phase.RETREAT
            case Phase.CARRY | Phase.LOWER if np.linalg.norm(scene.thing - scene.hand) > DROPPED:
                return Phase.RETREAT
            case Phase.CARRY if scene.aside < self.job.place.tolerance:
                return Phase.LOWER
            case Phase.LOWER if self._height(scene) < self.job.place.release:
                return Phase.RELEASE
            case Phase.RETREAT if self.steps >= PATIENCE[Phase.RETREAT]:
                return Phase.APPROACH
        return self.phase if self.steps < PATIENCE[self.phase] else Phase.RETREAT

    def _goal(self, scene: Scene) -> tuple[Vector, int]:
        """Where the hand shall go, and how far the fingers shall close."""
        grasp, place = self.job.grasp, self.job.place
        point = self._grasp_point(scene)
        match self.phase:
            case Phase.APPROACH:
                return point + up(grasp.hover), grasp.spread
            case Phase.DESCEND:
                return point, CLOSED if scene.hand[2] - point[2] < grasp.early else grasp.spread
            case Phase.CLOSE:
                return point, CLOSED
            case Phase.LIFT:
                return self._lift_goal(scene), CLOSED
            case Phase.CARRY:
                rise = self._carry_height(scene) - self._height(scene)
                # Travel only as fast as the height allows: a low object would hit the rim of the place.
                pace = np.clip(1 - (rise - 0.01) / 0.06, 0.0, 1.0)
                return scene.hand + np.append(pace * (scene.place - scene.thing)[:2], rise), CLOSED
            case Phase.LOWER:
                sink = self._height(scene) - place.release + 0.02
                return scene.hand + np.append((scene.place - scene.thing)[:2], -sink), CLOSED
            case Phase.RELEASE:
                return scene.hand, OPENED
            case Phase.RETREAT:
                return scene.hand + up(0.05), OPENED

    def _grasp_point(self, scene: Scene) -> Vector:
        """Where to close the fingers."""
        return scene.thing + turned(self.job.grasp.offset, self.turn or 0.0)

    def _height(self, scene: Scene) -> float:
        """Height of the object's lowest point over the origin of the place."""
        return float((scene.thing - scene.place)[2]) - self.job.grasp.below

    def _lift_goal(self, scene: Scene) -> Vector:
        """Up from where the fingers closed; where something overhangs the object, first out from under it."""
        grasp, lifted = self.job.grasp, self.lifted or scene
        if grasp.along is None or not grasp.pull:
            return lifted.hand + up(LIFT)
        outward = lifted.thing - scene.poses[grasp.along][:3]
        outward[2] = 0.0
        aim = lifted.hand + outward * (grasp.pull / np.linalg.norm(outward))
        return aim + up(LIFT if np.linalg.norm((aim - scene.hand)[:2]) < ARRIVED else 0.0)

    def _carry_height(self, scene: Scene) -> float:
        """Height of the object's lowest point over the origin of the place while it travels."""
        place, lifted = self.job.place, self.lifted or scene
        travelled = float(np.linalg.norm((scene.thing - lifted.thing)[:2]))
        high = self._height(lifted) + LIFT - max(0.0, travelled - CLEAR)
        glide = np.interp(scene.aside, [place.tolerance, place.tolerance + place.glide], [place.release, place.carry])
        return max(high, float(glide))


def choose_turn(grasp: Grasp, scene: Scene, attempt: int) -> float:
    """Choose the turn of the hand: the next best of those that keep the palm off tall neighbours.

    Args:
        grasp: How to take the object.
        scene: Poses of all objects, and which of them is grasped.
        attempt: Number of attempts that failed before; each takes another turn.
    """
    base = 0.0 if grasp.along is None else half_turn(heading(scene.poses[grasp.along]) - np.pi / 2)
    point = scene.thing + grasp.offset
    tall = [
        scene.poses[name][:2] - point[:2]
        for name, above in HEIGHTS.items()
        if name in scene.poses and name != grasp.body and scene.poses[name][2] + above > point[2] + PALM_HEIGHT
    ]
    turns = [base + turn for turn in grasp.turns]
    clear = [turn for turn in turns if all(palm_distance(turn, each) > CLEARANCE for each in tall)] or turns
    return clear[attempt % len(clear)]
