"""A two-line environment for scheduling tests: a counter that succeeds when the actions add up to a target.

It answers the contract of every world, costs microseconds a step, and never needs MuJoCo.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError, unknown_name
from harness.spec.action_space import LIBERO_ACTIONS
from harness.spec.observation import ACTION_DIM, CAMERAS, Observation
from harness.spec.stages import STAGES
from harness.time_source import TimeSource, WallTime
from harness.worlds.base import Credit, SimConfig, SimTimings, StepResult, SuiteDescription, told_instruction
from harness.worlds.interface import Interface

N_TASKS = 10
N_INIT_STATES = 50
INSTRUCTIONS = tuple(f"count to the target of task {i}" for i in range(N_TASKS))
SUITES: Mapping[str, float] = {"stub": 0.0, "stub_slow": 0.02}
"""Suite → seconds that each control step sleeps."""


def target(task_id: int, init_state_id: int) -> float:
    """Sum of first action components that solves an episode: between 3 and 22, different for neighbouring episodes."""
    return 3.0 + (task_id * 7 + init_state_id * 13) % 20


class StubSim:
    """A counter in place of a robot. Success: the sum of `action[0]` has reached `target(task, init state)`.

    An action of ones solves every episode within 22 steps; zeros solve none.
    """

    def __init__(
        self,
        suite: str,
        task_id: int,
        config: SimConfig,
        sleep: Callable[[float], None] = time.sleep,
        stopwatch: TimeSource | None = None,
    ) -> None:
        """Build the counter; `sleep` takes the seconds that a step of a slow suite lasts, `stopwatch` times it."""
        self._seconds = (stopwatch or WallTime()).seconds
        self.suite, self.task_id, self.config = suite, task_id, config
        self.instruction = told_instruction(INSTRUCTIONS, task_id, config.instruction)
        self.timings = SimTimings()
        self.cameras = config.cameras
        self.action_space = LIBERO_ACTIONS[config.control_mode]
        self._sleep, self._step_s = sleep, SUITES[suite]
        self._episode_key, self._sum, self._steps, self._target = "", 0.0, 0, float("inf")

    @property
    def qpos(self) -> NDArray[np.float64]:
        """The counter's state, shape (2,): sum so far, target."""
        return np.array([self._sum, self._target])

    @property
    def credit(self) -> Credit:
        """One goal, the target; each fifth of the way to it is a stage."""
        share = self._sum / self._target
        held = int(share >= 1)
        return Credit(1, held, held, STAGES[0 if held else min(max(int(5 * share), 0), len(STAGES) - 1)])

    def reset(
        self, init_state_id: int, *, trial: int = 0, episode_key: str = "", observe: bool = True
    ) -> Observation | None:
        """Start counting towards the target of an init state, the same in every trial."""
        del trial
        if init_state_id < 0 or (init_state_id >= N_INIT_STATES and self.config.placements == "init_states"):
            raise UsageError(f"Init state {init_state_id} does not exist; {self.suite} has 0 to {N_INIT_STATES - 1}.")
        self.timings = SimTimings()
        self._episode_key, self._sum, self._steps = episode_key, 0.0, 0
        self._target = target(self.task_id, init_state_id)
        return self._observe() if observe else None

    def step(self, action: NDArray[np.float32], observe: bool = False) -> StepResult:
        """Add `action[0]`."""
        if np.shape(action) != (ACTION_DIM,):
            raise UsageError(f"An action has shape ({ACTION_DIM},), got {np.shape(action)}.")
        began = self._seconds()
        if self._step_s:
            self._sleep(self._step_s)
        self._sum += float(action[0])
        self._steps += 1
        success = self._sum >= self._target
        self.timings.physics_s += self._seconds() - began
        return StepResult(success, success, self._observe() if observe else None)

    def frame(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """A picture of the counter: a grey level that moves with the steps, and a white row."""
        del camera
        picture = np.full((resolution, resolution, 3), self._steps % 200, dtype=np.uint8)
        picture[0] = 255
        return picture

    def close(self) -> None:
        """Nothing to free."""

    def _observe(self) -> Observation:
        size = self.config.resolution
        state = np.array([self._sum, self._target, self._steps, 0, 0, 0, 0, 0], dtype=np.float32)
        images = {camera: self.frame(camera, size) for camera in self.cameras}
        privileged = {"target": np.array([self._target, 0, 0, 1, 0, 0, 0.0])} if self.config.privileged else {}
        return Observation(self.instruction, state, images, privileged, self._episode_key)


class StubWorld:
    """Two suites of ten tasks and fifty init states each: "stub" (no cost) and "stub_slow" (20 ms a step)."""

    name = "stub"
    interface = Interface(
        cameras=CAMERAS,
        state=("sum", "target", "steps", *("unused",) * 5),
        actions=LIBERO_ACTIONS,
        physics_hz=500,
        success="the sum of first action components has reached a target",
        success_rule="goal_predicates",
        init_states="init state n of task t has the target 3 + (7 t + 13 n) mod 20",
        placements=("init_states", "sampled"),
        seedings=("fixed", "per_episode", "per_task"),
        settles=True,
        orientations=("raw", "rotated_180"),
        gl=False,
    )

    def require_installed(self) -> None:
        """It needs nothing."""

    def suites(self) -> tuple[str, ...]:
        """Names of the stub suites."""
        return tuple(SUITES)

    def describe(self, suite: str) -> SuiteDescription:
        """Describe a stub suite."""
        self._require(suite)
        tasks = tuple(f"task_{i}" for i in range(N_TASKS))
        return SuiteDescription(
            suite=suite,
            tasks=tasks,
            instructions=INSTRUCTIONS,
            n_init_states=(N_INIT_STATES,) * N_TASKS,
            init_states_sha256="0" * 64,
            versions={"stub": "1"},
        )

    def make(self, suite: str, task_id: int, config: SimConfig) -> StubSim:
        """Build the simulator of one stub task."""
        self._require(suite)
        if not 0 <= task_id < N_TASKS:
            raise UsageError(f"Task {task_id} does not exist; {suite} has tasks 0 to {N_TASKS - 1}.")
        return StubSim(suite, task_id, config)

    def _require(self, suite: str) -> None:
        if suite not in SUITES:
            raise unknown_name("suite", suite, SUITES)
