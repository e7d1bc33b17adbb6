"""The simulators that a worker keeps: building one costs seconds, so the latest few stay."""

from __future__ import annotations

from collections import OrderedDict

from harness.schedule.order import TaskId
from harness.time_source import TimeSource
from harness.worlds.base import SimConfig, Simulator, World

CAPACITY = 2
"""Simulators kept: one task for policies with and without cameras, or two tasks."""


class SimulatorCache:
    """Simulators by task and configuration, the least recently used closed first."""

    def __init__(self, world: World, clock: TimeSource, capacity: int = CAPACITY) -> None:
        """Build from `world`; `clock` measures how long that takes."""
        self._world, self._clock, self._capacity = world, clock, capacity
        self._held: OrderedDict[tuple[TaskId, SimConfig], Simulator] = OrderedDict()
        self.build_s = 0.0

    def get(self, task: TaskId, config: SimConfig) -> Simulator:
        """The simulator of a task, built if need be.

        Raises:
            SimulatorError: It cannot be built.
        """
        key = (task, config)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        while len(self._held) >= self._capacity:
            self._held.popitem(last=False)[1].close()
        began = self._clock.seconds()
        try:
            self._held[key] = self._world.make(*task, config)
        finally:
            self.build_s += self._clock.seconds() - began
        return self._held[key]

    def discard(self, task: TaskId, config: SimConfig) -> None:
        """Close a simulator whose state can no longer be trusted."""
        simulator = self._held.pop((task, config), None)
        if simulator is not None:
            simulator.close()

    def close(self) -> None:
        """Close them all."""
        while self._held:
            self._held.popitem()[1].close()
