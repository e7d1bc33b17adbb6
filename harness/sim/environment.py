"""Builds the robosuite environment of a task as LIBERO's evaluators do, without its renderer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.errors import SimulatorError
from harness.sim.base import SimConfig
from harness.sim.package import quiet
from harness.sim.resources import TaskFiles

_ATTEMPTS = 100
_HORIZON = 10**9
"""The harness ends episodes itself; robosuite's own horizon (1000) would raise."""


def build_environment(task: TaskFiles, config: SimConfig) -> Any:
    """Build a task's environment and reset it once.

    Objects are placed under `config.placement_seed`, on a private stretch of numpy's global generator, which robosuite
    insists on.

    Returns:
        A `libero.libero.envs` domain, freshly reset, with no observables and no GL context.

    Raises:
        SimulatorError: LIBERO cannot build the scene.
    """
    from libero.libero.envs.env_wrapper import ControlEnv

    with quiet(), seeded(config.placement_seed):
        env = _retry(
            lambda: (
                ControlEnv(
                    bddl_file_name=str(task.bddl),
                    use_camera_obs=False,
                    has_offscreen_renderer=False,
                    control_freq=config.control_hz,
                    horizon=_HORIZON,
                ).env
            ),
            task,
        )
        _forward_as_with_a_renderer(env)
        np.random.seed(config.placement_seed)
        _retry(env.reset, task)
    return env


def _forward_as_with_a_renderer(env: Any) -> None:
    """Have resets run the forward that robosuite's renderer runs when it is made.

    It changes no position, but the solver's warm start, and thereby the last bits of what follows.
    """
    initialize = env._initialize_sim

    def initialize_and_forward(xml_string: str | None = None) -> None:
        initialize(xml_string)
        env.sim.forward()

    env._initialize_sim = initialize_and_forward


def _retry(build: Any, task: TaskFiles) -> Any:
    """Call `build` until the random placement succeeds, as LIBERO does (which would also retry any other error)."""
    from robosuite.utils.errors import RandomizationError

    for _ in range(_ATTEMPTS):
        with contextlib.suppress(RandomizationError):
            return build()
    raise SimulatorError(f"LIBERO found no placement of the objects of {task.suite} task {task.task_id} ({task.name}).")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed numpy's global generator, and give it back as it was."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
