"""The plain robosuite loop that LIBERO's evaluators run, kept as the reference for exactness and speed.

`env.reset(); set_init_state; 10 settle steps; env.step`, rendering both cameras at every step and rebuilding the model
at
every reset. Two things of it depend on what ran before, and are pinned so that there is one reference to compare with:
fixtures are placed from numpy's global generator, which is seeded before each reset; and LIBERO appends its samplers of
doors and drawers to a list that it never empties, each drawing from that generator, so the list is cut back to what the
environment's first episode sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.sim.package import find_package, prepare, quiet
from harness.sim.resources import Resources

SETTLE_ACTION = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]


class PlainLibero:
    """LIBERO's own `OffScreenRenderEnv`, driven as openpi's and LeRobot's evaluators drive it."""

    def __init__(self, suite: str, task_id: int, resolution: int = 256, seed: int = 0, control_freq: int = 20) -> None:
        """Build the environment."""
        prepare()
        from libero.libero.envs import OffScreenRenderEnv

        resources = Resources(find_package())
        task = resources.task(suite, task_id)
        self.states = resources.init_states(task)
        self.seed = seed
        with quiet():
            self.env = OffScreenRenderEnv(
                bddl_file_name=str(task.bddl),
                camera_heights=resolution,
                camera_widths=resolution,
                control_freq=control_freq,
            )
        self._samplers = len(self.env.env.object_property_initializers)

    def reset(self, init_state_id: int, settle_steps: int = 10) -> Mapping[str, Any]:
        with quiet():
            del self.env.env.object_property_initializers[self._samplers :]
            self.env.seed(self.seed)
            self.env.reset()
        observation = self.env.set_init_state(self.states[init_state_id])
        for _ in range(settle_steps):
            observation, *_ = self.env.step(SETTLE_ACTION)
        return observation

    def step(self, action: NDArray[np.float32]) -> tuple[Mapping[str, Any], bool]:
        # robosuite assumes that its GL context is the only one of the process and never makes it current again.
        self.env.sim._render_context_offscreen.gl_ctx.make_current()
        observation, _, done, _ = self.env.step(action)
        return observation, bool(done)

    @property
    def qpos(self) -> NDArray[np.float64]:
        return np.array(self.env.sim.data.qpos)

    @property
    def qvel(self) -> NDArray[np.float64]:
        return np.array(self.env.sim.data.qvel)

    def close(self) -> None:
        self.env.close()


class OpenpiLibero:
    """A task's environment as openpi's examples/libero/main.py makes and resets it, 10 settle steps included."""

    SEED = 7

    def __init__(self, suite: str, task_id: int, resolution: int) -> None:
        """`_get_libero_env`."""
        prepare()
        from libero.libero.envs import OffScreenRenderEnv

        resources = Resources(find_package())
        task = resources.task(suite, task_id)
        self._states = resources.init_states(task)
        with quiet():
            self.env = OffScreenRenderEnv(bddl_file_name=task.bddl, camera_heights=resolution, camera_widths=resolution)
            self.env.seed(self.SEED)

    def reset(self, episode: int) -> Mapping[str, Any]:
        """The evaluator's next episode; they have to come in order."""
        with quiet():
            self.env.reset()
        observation = self.env.set_init_state(self._states[episode])
        for _ in range(10):
            observation, *_ = self.env.step(SETTLE_ACTION)
        return observation

    def close(self) -> None:
        self.env.close()


class LerobotLibero:
    """A task's environment as lerobot-eval makes and resets it: LeRobot's own `LiberoEnv`, one episode at a time."""

    SEED = 1000

    def __init__(self, suite: str, task_id: int, resolution: int) -> None:
        """Build LeRobot's environment; init states are handed to it, since it reads another package's files."""
        prepare()
        from lerobot.envs import libero

        resources = Resources(find_package())
        states = resources.init_states(resources.task(suite, task_id))
        with quiet(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(libero, "get_task_init_states", lambda *args, **kwargs: states)
            self._lerobot = libero.LiberoEnv(
                libero._get_suite(suite),
                task_id,
                suite,
                obs_type="pixels_agent_pos",
                observation_width=resolution,
                observation_height=resolution,
            )

    @property
    def env(self) -> Any:
        """LIBERO's environment below LeRobot's, there after the first reset."""
        return self._lerobot._env

    def reset(self, episode: int) -> Mapping[str, Any]:
        """An episode; in order, init states follow by themselves."""
        self._lerobot.init_state_id = episode
        with quiet():
            self._lerobot.reset(seed=self.SEED + episode)
        return self.env.env._get_observations()

    def close(self) -> None:
        self._lerobot.close()


def images(observation: Mapping[str, Any]) -> dict[str, NDArray[np.uint8]]:
    """Frames of an observation in LIBERO fine-tunes' orientation, by camera."""
    return {
        camera: np.ascontiguousarray(observation[f"{camera}_image"][::-1, ::-1])
        for camera in ("agentview", "robot0_eye_in_hand")
    }


def state(observation: Mapping[str, Any]) -> NDArray[np.float32]:
    """The 8 numbers that openpi's evaluator makes of an observation."""
    from robosuite.utils.transform_utils import quat2axisangle

    parts = (
        observation["robot0_eef_pos"],
        quat2axisangle(np.array(observation["robot0_eef_quat"])),
        observation["robot0_gripper_qpos"],
    )
    return np.concatenate(parts).astype(np.float32)
