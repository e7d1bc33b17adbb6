"""How far an episode of LIBERO came: goal predicates that hold, and stages on the way to those that do not.

Nothing here changes the simulation. Predicates are the ones that LIBERO evaluates after every control step anyhow;
contacts and poses are read as the step left them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.stages import NO_STAGE, STAGES
from harness.worlds.base import Credit

LOOK_EVERY = 4
"""Control steps between two looks at contacts and poses: 5 Hz at 20 Hz. No grasp is as short."""

LIFTED_M = 0.03
"""How far above its place after settling an object is lifted."""

NEAR_M = 0.05
"""Least radius about a target's centre within which a lifted object is above it."""

_LEFT, _RIGHT, _THINGS = 1, 2, 3
"""Roles of geoms: the finger pads, and from `_THINGS` on what goals are about."""

_REACHED = {name: number for number, name in enumerate(STAGES)}


@dataclass(frozen=True, slots=True)
class _Goal:
    """One predicate of the goal, with what its stages are read from."""

    state: Sequence[str]
    """As the BDDL file has it: predicate, thing, and where to for a movable thing."""
    role: int
    """Role of the thing's geoms."""
    body: int | None
    """Body of a movable thing; None for a drawer or a knob, which can only be touched."""
    target: tuple[bool, int, float] | None
    """Where to: whether it is a site, its id, and the radius about its centre in m."""


class GoalWatch:
    """Counts the goals of an episode and watches its stages."""

    def __init__(self, env: Any) -> None:
        """Resolve names to indices once.

        Args:
            env: A LIBERO environment.
        """
        self._env, model = env, env.sim.model
        self._roles = np.zeros(model._model.ngeom, dtype=np.int64)
        pads = env.robots[0].gripper.important_geoms
        for side, name in ((_LEFT, "left_fingerpad"), (_RIGHT, "right_fingerpad")):
            self._roles[[model.geom_name2id(geom) for geom in pads[name]]] = side
        things: dict[str, int] = {}
        self._goals: list[_Goal] = []
        for state in env.parsed_problem["goal_state"]:
            owner = _owner(env, state[1])
            role = things.setdefault(owner, _THINGS + len(things))
            geoms = [model.geom_name2id(geom) for geom in env.get_object(owner).contact_geoms]
            self._roles[geoms] = role
            movable = owner == state[1] and owner in env.objects_dict and len(state) == 3
            body = int(env.obj_body_id[owner]) if movable else None
            self._goals.append(_Goal(tuple(state), role, body, _target(env, state[2]) if movable else None))
        self._n_roles = _THINGS + len(things)
        self.begin()

    def begin(self) -> None:
        """Begin an episode, its scene settled: heights are measured from here."""
        data = self._env.sim.data._data
        self._floor = [float(data.xpos[goal.body][2]) if goal.body is not None else 0.0 for goal in self._goals]
        self._stage = [_REACHED[NO_STAGE]] * len(self._goals)
        self._held = self._best = (False,) * len(self._goals)
        self._steps = 0

    def check(self) -> bool:
        """LIBERO's `_check_success`, and which of its predicates hold.

        Every predicate is evaluated, in LIBERO's order: some note what frames then show (a burning stove).
        """
        self._held = tuple(bool(self._env._eval_predicate(goal.state)) for goal in self._goals)
        if sum(self._held) > sum(self._best):
            self._best = self._held
        return all(self._held)

    def watch(self) -> None:
        """Look at contacts and poses, every `LOOK_EVERY` control steps."""
        self._steps += 1
        if self._steps % LOOK_EVERY:
            return
        data = self._env.sim.data._data
        touched = self._touched(data)
        for number, goal in enumerate(self._goals):
            if not self._held[number]:
                stage = self._stage_of(data, number, goal, touched[goal.role])
                self._stage[number] = max(self._stage[number], stage)

    @property
    def credit(self) -> Credit:
        """The episode so far."""
        open_ones = [stage for stage, held in zip(self._stage, self._best, strict=True) if not held]
        return Credit(
            goals=len(self._goals),
            held_now=sum(self._held),
            held_best=sum(self._best),
            stage=STAGES[max(open_ones, default=_REACHED[NO_STAGE])],
        )

    def _touched(self, data: Any) -> NDArray[np.bool_]:
        """Which finger pads touch what, shape (roles, 2)."""
        touched = np.zeros((self._n_roles, 2), dtype=bool)
        if data.ncon:
            pairs = self._roles[data.contact.geom]
            first, second = pairs.min(axis=1), pairs.max(axis=1)
            by_pad = ((first == _LEFT) | (first == _RIGHT)) & (second >= _THINGS)
            touched[second[by_pad], first[by_pad] - _LEFT] = True
        return touched

    def _stage_of(self, data: Any, number: int, goal: _Goal, pads: NDArray[np.bool_]) -> int:
        """How far towards a goal things are at this moment."""
        if goal.body is None or goal.target is None:
            return _REACHED["touched"] if pads.any() else _REACHED[NO_STAGE]
        position = data.xpos[goal.body]
        if position[2] > self._floor[number] + LIFTED_M:
            is_site, place, radius = goal.target
            centre = data.site_xpos[place] if is_site else data.xpos[place]
            near = np.hypot(*(position[:2] - centre[:2])) <= radius and position[2] > centre[2]
            return _REACHED["over_target" if near else "lifted"]
        if pads.all():
            return _REACHED["grasped"]
        return _REACHED["touched"] if pads.any() else _REACHED[NO_STAGE]


def _owner(env: Any, name: str) -> str:
    """The object or fixture that something belongs to: a drawer's region belongs to its cabinet."""
    site = env.object_sites_dict.get(name)
    return name if site is None else str(site.parent_name)


def _target(env: Any, name: str) -> tuple[bool, int, float]:
    """Where a thing has to go: (whether it is a site, its id, radius in m)."""
    site = env.object_sites_dict.get(name)
    if site is None:
        return False, int(env.obj_body_id[name]), max(float(env.get_object(name).horizontal_radius), NEAR_M)
    return True, int(env.sim.model.site_name2id(name)), max(float(np.max(np.abs(site.size)[:2])), NEAR_M)
