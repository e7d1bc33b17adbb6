"""A world in eighty lines: a point on a plane that has to reach a goal. docs/howto/own-simulator.md goes through it."""

from __future__ import annotations

import numpy as np

from harness.spec.action_space import ActionSpace
from harness.spec.observation import Observation
from harness.worlds import Interface, SimConfig, SimTimings, StepResult, SuiteDescription

SUITE, N_INIT_STATES, REACHED = "pointmass", 10, 0.1
WORDS = ("reach the goal at the origin",)


class PointMassSim:
    """The one task: velocities of at most 0.1 a step."""

    def __init__(self, config: SimConfig) -> None:
        """Build it; nothing is drawn unless a policy looks or a video is made."""
        self.config, self.cameras = config, config.cameras
        self.action_space = PointMassWorld.interface.space(config.control_mode)
        self.instruction = WORDS[0] if config.instruction == "own" else ""
        self.timings = SimTimings()
        self._key = ""
        self._at = np.zeros(2)

    @property
    def qpos(self):
        """Where the point is, shape (2,): what trajectories are compared by."""
        return self._at.copy()

    def reset(self, init_state_id, *, trial=0, episode_key="", observe=True):
        """The same number starts the same episode, whatever ran before."""
        self.timings, self._key = SimTimings(), episode_key
        seed = self.config.placement_seed + init_state_id + trial * N_INIT_STATES
        self._at = np.random.default_rng(seed).uniform(-1, 1, 2)
        return self._observe() if observe else None

    def step(self, action, observe=False):
        """Move; the frame is drawn only if somebody wants it."""
        self._at = self._at + 0.1 * np.asarray(action, dtype=np.float64)
        success = bool(np.linalg.norm(self._at) < REACHED)
        return StepResult(success, success, self._observe() if observe else None)

    def frame(self, camera, resolution):
        """A grey plane, the point on it in white."""
        picture = np.full((resolution, resolution, 3), 90, dtype=np.uint8)
        row, column = np.clip((self._at / 2 + 0.5) * resolution, 0, resolution - 1).astype(int)
        picture[row, column] = 255
        return picture

    def close(self):
        """Nothing to free."""

    def _observe(self):
        images = {camera: self.frame(camera, self.config.resolution) for camera in self.cameras}
        expert = {"expert_action": np.clip(-10 * self._at, -1, 1)} if self.config.privileged else {}
        return Observation(self.instruction, self._at.astype(np.float32), images, expert, self._key)


class PointMassWorld:
    """What the entry point names: built without arguments, and cheap to build."""

    name = "pointmass"
    interface = Interface(
        cameras=("top",),
        state=("x", "y"),
        actions={"relative": ActionSpace(("dx", "dy"), "relative", (0.0, 0.0), ((-1.0, 1.0),) * 2)},
        physics_hz=10,
        control_hz=(10,),
        success=f"the point is within {REACHED} of the origin",
        init_states="a place drawn with the seed placement_seed + n + 10 × trial",
        gl=False,
    )

    def require_installed(self):
        """Raise harness.errors.SimulatorError here where a package or an asset is missing."""

    def suites(self):
        """Names of its suites."""
        return (SUITE,)

    def describe(self, suite):
        """Tasks, words and init states; equal on every node, or the nodes do not run together."""
        return SuiteDescription(SUITE, ("reach",), WORDS, (N_INIT_STATES,), "pointmass-seeds-1", {"pointmass": "0.1.0"})

    def make(self, suite, task_id, config):
        """Build the simulator of one task."""
        return PointMassSim(config)
