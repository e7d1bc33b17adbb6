"""A gymnasium environment as a simulator. What differs between environments is a few methods of a subclass.

LeRobot's environments render a frame at every step, though a chunked policy looks once per chunk. Here nothing is
rendered unless an observation with cameras is asked for; actions, seeds and what moves are the environment's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError, UsageError
from harness.spec.observation import Observation
from harness.time_source import TimeSource, WallTime
from harness.worlds.base import SimConfig, SimTimings, StepResult, told_instruction
from harness.worlds.interface import Interface

N_INIT_STATES = 50
"""Init states that a task is said to have: as many as lerobot-eval plays by default. Seeds have no end; more episodes
are trials."""


class GymnasiumSim(ABC):
    """One task of an environment that is reset by a seed.

    Init state n of trial t is the reset with seed `placement_seed` + n + t × 50, as lerobot-eval counts its episodes.
    """

    def __init__(
        self,
        environment: Any,
        interface: Interface,
        config: SimConfig,
        *,
        task: str,
        task_id: int,
        instructions: Sequence[str],
        stopwatch: TimeSource | None = None,
    ) -> None:
        """Wrap an environment.

        Args:
            environment: The gymnasium environment.
            interface: What its world declares.
            config: What of the protocol a simulator needs.
            task: Suite and task, for messages.
            task_id: The task in its suite.
            instructions: Words of every task of the suite.
            stopwatch: What `timings` are taken by; None: the machine's.
        """
        self.environment, self.config = environment, config
        self.action_space = interface.space(config.control_mode)
        self.cameras = config.cameras
        self.instruction = told_instruction(instructions, task_id, config.instruction)
        self.timings = SimTimings()
        self._seconds = (stopwatch or WallTime()).seconds
        self._task, self._episode_key, self._running = task, "", False

    @property
    @abstractmethod
    def qpos(self) -> NDArray[np.float64]:
        """All that moves, shape (nq,), a copy."""

    @abstractmethod
    def begin(self, seed: int) -> None:
        """Reset the environment with a seed."""

    @abstractmethod
    def advance(self, action: NDArray[np.float32]) -> bool:
        """Take one control step without rendering; whether the task is done."""

    @abstractmethod
    def state(self) -> NDArray[np.float32]:
        """The state that policies see, as the world declares it."""

    @abstractmethod
    def render(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """A frame, shape (resolution, resolution, 3), that changes nothing in the episode."""

    def privileged(self) -> dict[str, NDArray[np.float64]]:
        """What only controls may see."""
        return {}

    def reset(
        self, init_state_id: int, *, trial: int = 0, episode_key: str = "", observe: bool = True
    ) -> Observation | None:
        """Start an episode; see `Simulator.reset`.

        Raises:
            UsageError: No such init state or trial.
        """
        if not 0 <= init_state_id < N_INIT_STATES or trial < 0:
            raise UsageError(
                f"Init state {init_state_id}, trial {trial} does not exist; {self._task} has init states 0 to "
                f"{N_INIT_STATES - 1}, and trials count from 0."
            )
        self.timings, self._episode_key = SimTimings(), episode_key
        began = self._seconds()
        self.begin(self.config.placement_seed + init_state_id + trial * N_INIT_STATES)
        self._running = True
        self.timings.reset_s = self._seconds() - began
        return self._observe() if observe else None

    def step(self, action: NDArray[np.float32], observe: bool = False) -> StepResult:
        """Run one control step; see `Simulator.step`.

        Raises:
            UsageError: The action has another shape, or is not finite.
            SimulatorError: No episode was started.
        """
        if not self._running:
            raise SimulatorError("step() before reset(): start an episode with reset(init_state_id) first.")
        values = np.asarray(action, dtype=np.float32)
        if values.shape != (self.action_space.dim,) or not np.isfinite(values).all():
            raise UsageError(f"An action of {self._task} is {self.action_space}, got {action!r}.")
        began = self._seconds()
        success = self.advance(values)
        self.timings.physics_s += self._seconds() - began
        return StepResult(success, success, self._observe() if observe else None)

    def frame(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """Render the present state for a video."""
        began = self._seconds()
        picture = self.render(camera, resolution)
        self.timings.render_s += self._seconds() - began
        return picture

    def close(self) -> None:
        """Close the environment."""
        self.environment.close()
        self._running = False

    def _observe(self) -> Observation:
        images = {camera: self.frame(camera, self.config.resolution) for camera in self.cameras}
        seen = self.privileged() if self.config.privileged else {}
        return Observation(self.instruction, self.state(), images, seen, self._episode_key)


def from_lerobot(kind: str, **settings: Any) -> dict[str, dict[int, Any]]:
    """Environments from LeRobot's own factory.

    Args:
        kind: Its name of the environment, e.g. "pusht".
        settings: Of its configuration.

    Returns:
        Group → task id → the environment, without the wrapper that steps many at once.
    """
    from lerobot.envs.factory import make_env, make_env_config

    # The factory prints what it makes; standard output is the report's.
    with contextlib.redirect_stdout(io.StringIO()):
        made = make_env(make_env_config(kind, **settings), n_envs=1)
    return {group: {n: vector.envs[0].unwrapped for n, vector in tasks.items()} for group, tasks in made.items()}


def require_modules(world: str, modules: Sequence[str], extra: str) -> None:
    """Refuse to go on without the packages of a world.

    Raises:
        SimulatorError: Names what is missing and the extra that brings it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise SimulatorError(
            f"World {world!r} needs {' and '.join(missing)}, not installed here: pip install 'vla-harness[{extra}]'."
        )


def installed_versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages that decide scores; "absent" for one that is not here."""

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    return {package: of(package) for package in packages}


def seeds_sha256(world: str) -> str:
    """What manifests say of init states that are seeds: a digest of the rule, for there are no stored states."""
    return hashlib.sha256(f"{world}: reset(seed = placement_seed + n + {N_INIT_STATES} trial)".encode()).hexdigest()
