"""Meta-World's fifty tasks (package `metaworld`), in LeRobot's environment and its four groups.

Suites are "metaworld_easy", "…_medium", "…_hard" and "…_very_hard"; tasks, their order and their words are LeRobot's
(`lerobot/envs/metaworld_config.json`), read from its file without importing it.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import RenderError, SimulatorError, UsageError, unknown_name
from harness.spec.action_space import ActionSpace
from harness.worlds.base import SimConfig, SuiteDescription
from harness.worlds.gymnasium import (
    N_INIT_STATES,
    GymnasiumSim,
    from_lerobot,
    installed_versions,
    require_modules,
    seeds_sha256,
)
from harness.worlds.interface import Interface

GROUPS = ("easy", "medium", "hard", "very_hard")
CAMERA = "corner2"
"""LeRobot's camera, which it moves and turns over."""
MAX_STEPS = 500
"""`SawyerXYZEnv.max_path_length`: its step raises afterwards."""
NATIVE = 480
"""Height and width of the frames that Meta-World renders and LeRobot's datasets hold, pixels."""

INTERFACE = Interface(
    cameras=(CAMERA,),
    state=("hand x, m", "hand y, m", "hand z, m", "gripper opening, 0 to 1"),
    actions={
        "relative": ActionSpace(
            ("dx", "dy", "dz", "gripper"), "relative", (0.0, 0.0, 0.0, -1.0), ((-1.0, 1.0),) * 4, (3,)
        )
    },
    physics_hz=400,
    control_hz=(80,),
    success="the environment's info says success after a control step",
    init_states=f"a reset with the seed placement_seed + n + {N_INIT_STATES} × trial, as lerobot-eval counts",
    max_steps=MAX_STEPS,
    imports=("torch", "transformers"),
)


class MetaWorldSim(GymnasiumSim):
    """One task. Its qpos and success are those of LeRobot's environment to the bit; frames are rendered when wanted."""

    def __init__(self, environment: Any, config: SimConfig, suite: str, task_id: int, words: tuple[str, ...]) -> None:
        """Wrap LeRobot's environment of a task."""
        super().__init__(
            environment, INTERFACE, config, task=f"{suite} task {task_id}", task_id=task_id, instructions=words
        )
        environment._ensure_env()
        self._inner = environment._env
        self._renderers: dict[int, Any] = {}
        self._raw = np.zeros(39)
        self._steps = 0

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Joints of the arm and of all objects, shape (nq,), a copy."""
        return np.array(self._inner.data.qpos)

    @property
    def eef_position(self) -> NDArray[np.float64]:
        """Position of the hand, shape (3,), metres, a copy."""
        return np.array(self._inner.get_endeff_pos())

    def begin(self, seed: int) -> None:
        """Reset as LeRobot's environment does, less its frame."""
        self._inner.seed(seed)
        self._raw, _ = self._inner.reset(seed=seed)
        self._steps = 0

    def advance(self, action: NDArray[np.float32]) -> bool:
        """One step of the environment, which nobody resets when the task is done."""
        if self._steps >= MAX_STEPS:
            raise SimulatorError(f"{self._task} ends after {MAX_STEPS} control steps; lower max_steps in the protocol.")
        self._steps += 1
        self._raw, _, _, _, info = self._inner.step(action)
        return bool(info.get("success", 0))

    def state(self) -> NDArray[np.float32]:
        """What LeRobot calls agent_pos, shape (4,)."""
        return np.array(self._raw[:4], dtype=np.float32)

    def privileged(self) -> dict[str, NDArray[np.float64]]:
        """What Meta-World's own scripted policy of the task would do now."""
        action = self.environment.expert_policy.get_action(self._raw)
        return {"expert_action": np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)}

    def render(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """A frame from LeRobot's camera, turned as LeRobot turns it.

        Raises:
            RenderError: No GL backend is named.
        """
        if os.environ.get("MUJOCO_GL") not in ("egl", "osmesa"):
            raise RenderError("Meta-World renders with MUJOCO_GL=egl or osmesa: set one (as `harness run` does).")
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        if resolution not in self._renderers:
            self._renderers[resolution] = MujocoRenderer(
                self._inner.model, self._inner.data, width=resolution, height=resolution, camera_name=camera
            )
        return np.ascontiguousarray(self._renderers[resolution].render("rgb_array")[::-1, ::-1])

    def close(self) -> None:
        """Free the model and the GL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers = {}
        super().close()


class MetaWorld:
    """Four suites of 28, 11, 6 and 5 tasks."""

    name = "metaworld"
    interface = INTERFACE

    def require_installed(self) -> None:
        """Refuse to go on without Meta-World and LeRobot.

        Raises:
            SimulatorError: Names what is missing.
        """
        require_modules(self.name, ("metaworld", "lerobot", "gymnasium"), "metaworld")

    def suites(self) -> tuple[str, ...]:
        """The four groups; none where LeRobot, which defines them, is not installed."""
        return tuple(f"metaworld_{group}" for group in GROUPS) if _table() else ()

    def describe(self, suite: str) -> SuiteDescription:
        """Describe a suite, from LeRobot's file alone."""
        tasks, words = self._tasks(suite)
        return SuiteDescription(
            suite=suite,
            tasks=tasks,
            instructions=words,
            n_init_states=(N_INIT_STATES,) * len(tasks),
            init_states_sha256=seeds_sha256(self.name),
            versions=installed_versions(("metaworld", "mujoco", "gymnasium", "lerobot")),
        )

    def make(self, suite: str, task_id: int, config: SimConfig) -> MetaWorldSim:
        """Build one task in LeRobot's factory, which imports torch."""
        tasks, words = self._tasks(suite)
        if not 0 <= task_id < len(tasks):
            raise UsageError(f"Task {task_id} does not exist; {suite} has tasks 0 to {len(tasks) - 1}.")
        self.require_installed()
        made = from_lerobot("metaworld", task=tasks[task_id], obs_type="pixels_agent_pos")
        return MetaWorldSim(made[tasks[task_id]][0], config, suite, task_id, words)

    def _tasks(self, suite: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names and words of a suite's tasks."""
        self.require_installed()
        if suite not in self.suites():
            raise unknown_name("suite", suite, self.suites())
        tasks = tuple(_table()["DIFFICULTY_TO_TASKS"][suite.removeprefix("metaworld_")])
        return tasks, tuple(_table()["TASK_DESCRIPTIONS"][task] for task in tasks)


@functools.cache
def _table() -> dict[str, Any]:
    """LeRobot's table of tasks; empty without LeRobot."""
    found = importlib.util.find_spec("lerobot")
    folders = found.submodule_search_locations if found else None
    path = Path(folders[0]) / "envs" / "metaworld_config.json" if folders else None
    if path is None or not path.is_file():
        return {}
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table
