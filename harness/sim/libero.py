"""LIBERO, exact to the bit and fast: robosuite without its rebuilds, its redundant forwards and its unread frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError, UsageError
from harness.sim.cameras import Renderer
from harness.sim.credit import GoalWatch
from harness.sim.disk_cache import open_cache
from harness.sim.engine import mujoco
from harness.sim.environment import open_task
from harness.sim.package import find_package, prepare
from harness.sim.placements import MAX_DRAWS, EvaluatorPlacements, PlacementSampler, SceneSampler
from harness.sim.resources import Resources, require_init_state
from harness.sim.sensors import Sensors, sample_substep, substeps
from harness.sim.textures import Textures
from harness.spec.action_space import LIBERO_ACTIONS
from harness.spec.observation import ACTION_DIM, CAMERAS, Observation
from harness.time_source import TimeSource, WallTime
from harness.worlds.base import Credit, SimConfig, SimTimings, StepResult, told_instruction

SETTLE_ACTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
"""What every evaluator sends while the scene settles: no motion, gripper open."""


class LiberoSim:
    """One LIBERO task. Its qpos, success, state and frames equal robosuite's to the bit; only waste is left out."""

    def __init__(
        self,
        suite: str,
        task_id: int = 0,
        *,
        resolution: int = 256,
        config: SimConfig | None = None,
        resources: Resources | None = None,
        stopwatch: TimeSource | None = None,
    ) -> None:
        """Build a task; takes seconds, once.

        Args:
            suite: LIBERO suite, e.g. "libero_spatial".
            task_id: Task of the suite.
            resolution: Frame size in pixels, used when no config is given.
            config: What of the protocol the simulator needs; None: both cameras at `resolution`, LIBERO's defaults.
            resources: The LIBERO package's files; None: of the installed package.
            stopwatch: What `timings` are taken by; None: the machine's.

        Raises:
            UsageError: Unknown suite or task, or a control rate at which LIBERO samples its cameras irregularly.
            SimulatorError: LIBERO or MuJoCo is missing or refuses.
        """
        self.config = config or SimConfig(resolution=resolution, cameras=CAMERAS)
        self.action_space = LIBERO_ACTIONS[self.config.control_mode]
        self._seconds = (stopwatch or WallTime()).seconds
        resources = resources or Resources(find_package())
        task = resources.task(suite, task_id)
        self.suite, self.task_id, self.task = suite, task_id, task.name
        if self.config.instruction == "own":
            self.instruction = resources.instruction(task)
        else:
            words = [resources.instruction(other) for other in resources.tasks(suite)]
            self.instruction = told_instruction(words, task_id, self.config.instruction)
        self.timings = SimTimings()
        self.cameras = self.config.cameras
        """Cameras that observations show from now on; a recorder looks only now and then."""
        self._states = resources.init_states(task)
        self._sample_after = sample_substep(self.config.control_hz)
        self._substeps = substeps(self.config.control_hz)
        prepare()
        from harness.sim.osc import OscStepper
        from harness.sim.snapshot import Snapshot

        built = open_task(task, self.config, resources.package)
        self._env = built.env
        self._model, self._data = self._env.sim.model._model, self._env.sim.data._data
        expected = 1 + self._model.nq + self._model.nv
        if self._states.shape[1] != expected:
            raise SimulatorError(
                f"Init states of {suite} task {task_id} have {self._states.shape[1]} numbers, but the scene needs "
                f"{expected}: BDDL file and init states come from different packages. Reinstall LIBERO."
            )
        seeding, seed = self.config.placement_seeding, self.config.placement_seed
        scene = SceneSampler(self._env)
        self._placements = EvaluatorPlacements(
            self._env, scene, seeding=seeding, seed=seed, task=f"{suite} task {task_id}"
        )
        self._placements.place(0)
        self._placed = Snapshot(self._env)
        self._stepper = OscStepper(self._env)
        self._sensors = Sensors(self._env, self.config)
        self._goals = GoalWatch(self._env)
        self._renderer = Renderer(self._model, Textures(built.textures, open_cache("textures")))
        self._sampler: PlacementSampler | None = None
        if self.config.placements == "sampled":
            self._sampler = PlacementSampler(self._env, scene, f"{suite}:{task_id}:{seed}")
        self._episode_key = ""
        self._started = False

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Generalised positions of the whole model, shape (nq,), a copy."""
        return np.array(self._data.qpos)

    @property
    def eef_position(self) -> NDArray[np.float64]:
        """Position of the end effector, shape (3,), metres, world frame, a copy."""
        return self._sensors.eef_position(self._data)

    @property
    def qvel(self) -> NDArray[np.float64]:
        """Generalised velocities of the whole model, shape (nv,), a copy."""
        return np.array(self._data.qvel)

    @property
    def credit(self) -> Credit:
        """How far the episode came since the last reset."""
        return self._goals.credit

    @property
    def n_init_states(self) -> int:
        """Number of init states of the task."""
        return len(self._states)

    def reset(
        self, init_state_id: int, *, trial: int = 0, episode_key: str = "", observe: bool = True
    ) -> Observation | None:
        """Start an episode: place fixtures, set the init state and settle.

        Args:
            init_state_id: Which init state; with sampled placements, which of them.
            trial: Which repetition. Where fixtures stand follows the evaluators' count of episodes, in which init
                states come round again and seeds go on: `init_state_id + trial * n_init_states`.
            episode_key: Key that observations carry.
            observe: Whether to render and return the first observation.

        Returns:
            The first observation, or None when `observe` is False.

        Raises:
            UsageError: No such init state or trial.
        """
        if self._sampler is None or init_state_id < 0:
            require_init_state(self._states, init_state_id, f"{self.suite} task {self.task_id}")
        if trial < 0:
            raise UsageError(f"Trial {trial} does not exist; trials count from 0.")
        self.timings = SimTimings()
        self._episode_key = episode_key
        began = self._seconds()
        images = self._start(init_state_id, trial, observe=observe)
        if self.config.control_mode == "absolute":
            self._env.robots[0].controller.use_delta = False
        self._goals.begin()
        self._started = True
        self.timings.reset_s = self._seconds() - began - self.timings.render_s
        return self._observation(images) if observe else None

    def step(self, action: NDArray[np.float32], observe: bool = False) -> StepResult:
        """Run one control step.

        Args:
            action: Shape (7,), finite.
            observe: Whether to render and return an observation.

        Raises:
            UsageError: The action is not of shape (7,) or not finite.
            SimulatorError: No episode was started.
            RenderError: A frame was wanted and cannot be rendered.
        """
        if not self._started:
            raise SimulatorError("step() before reset(): start an episode with reset(init_state_id) first.")
        values = np.asarray(action)
        if values.shape != (ACTION_DIM,) or not np.isfinite(values).all():
            raise UsageError(f"An action is {ACTION_DIM} finite numbers, got {values!r}.")
        began, rendered = self._seconds(), self.timings.render_s
        images, success = self._control_step(values, render=observe)
        self._goals.watch()
        self.timings.physics_s += self._seconds() - began - (self.timings.render_s - rendered)
        return StepResult(success, success, self._observation(images) if observe else None)

    def frame(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """Render the present state for a video, in the protocol's orientation, without disturbing the episode."""
        began = self._seconds()
        picture = self._oriented(self._renderer.render(self._data, camera, resolution))
        self.timings.render_s += self._seconds() - began
        return picture

    def close(self) -> None:
        """Free the model and the GL context."""
        self._renderer.close()
        self._started = False

    def _start(self, init_state_id: int, trial: int, *, observe: bool) -> dict[str, NDArray[np.uint8]]:
        """Put everything where the episode begins and let it settle; its frames, when they are wanted."""
        for attempt in range(MAX_DRAWS):
            if self._sampler is not None or self.config.placement_seeding == "fixed":
                self._placed.restore()
            else:
                self._placements.place(init_state_id + trial * self.n_init_states)
            self._stepper.restart()
            state = self._states[init_state_id] if self._sampler is None else self._sampler.draw(init_state_id, attempt)
            self._set_init_state(state)
            images, success = self._settle(observe=observe)
            if self._sampler is None or (self._sampler.at_rest() and not success):
                return images
        raise SimulatorError(
            f"None of {MAX_DRAWS} sampled placements of {self.suite} task {self.task_id} comes to rest unsolved within "
            f"{self.config.settle_steps} settle steps; raise settle_steps."
        )

    def _settle(self, *, observe: bool) -> tuple[dict[str, NDArray[np.uint8]], bool]:
        """Hold still for the settle steps: the last one's frames and success."""
        images: dict[str, NDArray[np.uint8]] = {}
        success = False
        for settled in range(self.config.settle_steps):
            last = settled == self.config.settle_steps - 1
            images, success = self._control_step(SETTLE_ACTION, render=observe and last)
        if observe and not self.config.settle_steps:
            images = self._render()
        return images, success

    def _set_init_state(self, state: NDArray[np.float64]) -> None:
        """LIBERO's `set_init_state`: time, positions, velocities, and what follows from them."""
        nq = self._model.nq
        self._data.time = state[0]
        self._data.qpos[:], self._data.qvel[:] = state[1 : 1 + nq], state[1 + nq :]
        mujoco.mj_forward(self._model, self._data)
        self._env._check_success()
        self._env._post_process()
        self._sensors.sample(self._data)

    def _control_step(self, action: NDArray[Any], *, render: bool) -> tuple[dict[str, NDArray[np.uint8]], bool]:
        """One control step: its frames and its success.

        Sensors and cameras are read after the substep at which robosuite samples them, which is not the last.
        """
        self._stepper.begin(action)
        self._stepper.go_on(self._sample_after - 1)
        self._sensors.sample(self._data)
        images = self._render() if render else {}
        self._stepper.go_on(self._substeps - self._sample_after)
        # Checking comes first, as in robosuite: some predicates note what `_post_process` then shows (a burning stove).
        success = self._goals.check()
        self._env._post_process()
        return images, success

    def _render(self) -> dict[str, NDArray[np.uint8]]:
        began = self._seconds()
        images = {
            camera: self._oriented(self._renderer.render(self._data, camera, self.config.resolution))
            for camera in self.cameras
        }
        self.timings.render_s += self._seconds() - began
        return images

    def _oriented(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(frame[::-1, ::-1]) if self.config.image_orientation == "rotated_180" else frame

    def _observation(self, images: dict[str, NDArray[np.uint8]]) -> Observation:
        return Observation(
            instruction=self.instruction,
            state=self._sensors.state(),
            images=images,
            privileged=self._sensors.privileged() if self.config.privileged else {},
            episode_key=self._episode_key,
        )
