"""The installed LIBERO package as a world: planning and listing read files, and only `make` loads a simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import SimulatorError
from harness.sim.package import INSTALL_HINT, find_package, is_installed, versions
from harness.sim.resources import Resources
from harness.sim.shipped import describe_shipped, shipped_suites
from harness.spec.action_space import LIBERO_ACTIONS
from harness.spec.observation import CAMERAS
from harness.spec.protocol import PHYSICS_HZ
from harness.worlds.base import SimConfig, SuiteDescription
from harness.worlds.interface import Interface

if TYPE_CHECKING:
    from harness.sim.libero import LiberoSim


class LiberoWorld:
    """The suites of the installed LIBERO package; on a driver without one, those that the harness ships as data."""

    name = "libero"
    interface = Interface(
        cameras=CAMERAS,
        state=(
            *(f"end effector {axis}, m" for axis in "xyz"),
            *(f"axis-angle {axis}, rad" for axis in "xyz"),
            *(f"gripper joint {n}, m" for n in (0, 1)),
        ),
        actions=LIBERO_ACTIONS,
        physics_hz=PHYSICS_HZ,
        success="all predicates of the task's BDDL goal hold after a control step",
        success_rule="goal_predicates",
        init_states="the n-th stored state of the task's file, or the n-th sampled placement",
        placements=("init_states", "sampled"),
        seedings=("fixed", "per_episode", "per_task"),
        settles=True,
        orientations=("rotated_180", "raw"),
    )

    def __init__(self, resources: Resources | None = None) -> None:
        """Read the installed package's tables; `resources` overrides which package."""
        self._resources = resources or (Resources(find_package()) if is_installed() else None)

    def require_installed(self) -> None:
        """Refuse to go on without a LIBERO package.

        Raises:
            SimulatorError: None is installed.
        """
        if self._resources is None:
            raise SimulatorError(f"World {self.name!r} needs LIBERO, which is not installed here. {INSTALL_HINT}")

    def suites(self) -> tuple[str, ...]:
        """Names of the task suites whose resources are complete."""
        return shipped_suites() if self._resources is None else self._resources.suites()

    def describe(self, suite: str) -> SuiteDescription:
        """Describe a suite, from files alone: nothing is simulated."""
        if self._resources is None:
            return describe_shipped(suite)
        tasks = self._resources.tasks(suite)
        return SuiteDescription(
            suite=suite,
            tasks=tuple(task.name for task in tasks),
            instructions=tuple(self._resources.instruction(task) for task in tasks),
            n_init_states=tuple(len(self._resources.init_states(task)) for task in tasks),
            init_states_sha256=self._resources.init_states_sha256(suite),
            versions=versions(),
        )

    def make(self, suite: str, task_id: int, config: SimConfig) -> LiberoSim:
        """Build the simulator of one task. MuJoCo and LIBERO are imported here, not before."""
        if self._resources is None:
            raise SimulatorError(f"No LIBERO package is installed, so nothing can be simulated here. {INSTALL_HINT}")
        from harness.sim.libero import LiberoSim

        return LiberoSim(suite, task_id, config=config, resources=self._resources)
