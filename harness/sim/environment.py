"""Opens the robosuite environment of a task as LIBERO's evaluators build it, without its renderer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from harness.errors import SimulatorError
from harness.sim.built import BuiltTask, integration_state, keep_task, load_task, set_integration_state, task_digest
from harness.sim.disk_cache import open_cache
from harness.sim.engine import mujoco
from harness.sim.package import LiberoPackage, quiet
from harness.sim.resources import TaskFiles
from harness.sim.textures import split_textures
from harness.worlds.base import SimConfig

_ATTEMPTS = 100
_HORIZON = 10**9
"""The harness ends episodes itself; robosuite's own horizon (1000) would raise."""


def open_task(task: TaskFiles, config: SimConfig, package: LiberoPackage) -> BuiltTask:
    """Open a task: as it was kept on this machine, else built, and then kept.

    Raises:
        SimulatorError: LIBERO cannot build the scene.
    """
    cache = open_cache("tasks")
    if cache is None:
        return build_task(task, config)
    assets = [folder for folder in (package.assets_root,) if folder is not None]
    digest = task_digest(task, config, package, assets)
    kept = load_task(cache, digest)
    if kept is not None:
        return kept
    built = build_task(task, config)
    keep_task(cache, digest, built)
    return built


def build_task(task: TaskFiles, config: SimConfig) -> BuiltTask:
    """Build a task's environment and reset it once, up to where LIBERO would place objects and fixtures.

    What robosuite draws meanwhile comes from a private stretch of numpy's global generator, which it insists on.

    Returns:
        A `libero.libero.envs` domain with no observables and no GL context, and with nothing placed yet: objects and
        fixtures are where their own models have them. `harness.sim.placements` goes on from there.

    Raises:
        SimulatorError: LIBERO cannot build the scene.
    """
    from libero.libero.envs.env_wrapper import ControlEnv

    with quiet(), seeded(config.placement_seed), _textures_apart() as textures:
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
        with _forward_as_with_a_renderer(env):
            _reset_but_place_nothing(env)
    env._observables, env._obs_cache = {}, {}
    return BuiltTask(env, textures[-1])


@contextlib.contextmanager
def _textures_apart() -> Iterator[list[str]]:
    """Have robosuite compile models without the pixels of textures; collects the XML of the latter."""
    from robosuite.utils.binding_utils import MjSim

    found: list[str] = []

    def from_xml_string(cls: Any, xml: str) -> Any:
        scene, textures = split_textures(xml)
        found.append(textures)
        return cls(mujoco.MjModel.from_xml_string(scene))

    with mock.patch.object(MjSim, "from_xml_string", classmethod(from_xml_string)):
        yield found


def _reset_but_place_nothing(env: Any) -> None:
    """Run a hard reset as far as robosuite's part of it: the model rebuilt, the arm in its pose, nothing placed.

    What LIBERO appends to that (`BDDLBaseDomain._reset_internal`) is left out, and so is the forward that would follow
    it, since the solver's warm start remembers it.
    """
    from libero.libero.envs.bddl_base_domain import BDDLBaseDomain

    model_state: list[NDArray[np.float64]] = []

    def reset_internal() -> None:
        super(BDDLBaseDomain, env)._reset_internal()
        model_state.append(integration_state(env))

    env._reset_internal = reset_internal
    try:
        env.reset()
    finally:
        del env._reset_internal
    set_integration_state(env, model_state[-1])


@contextlib.contextmanager
def _forward_as_with_a_renderer(env: Any) -> Iterator[None]:
    """Have resets run the forward that robosuite's renderer runs when it is made.

    It changes no position, but the solver's warm start, and thereby the last bits of what follows.
    """
    initialize = env._initialize_sim

    def initialize_and_forward(xml_string: str | None = None) -> None:
        initialize(xml_string)
        env.sim.forward()

    env._initialize_sim = initialize_and_forward
    try:
        yield
    finally:
        del env._initialize_sim


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
