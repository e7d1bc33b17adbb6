"""PushT (package `gym-pusht`): a disc that pushes a T onto its outline. Small, flat, and its actions are places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError, unknown_name
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

SUITE, TASK = "pusht", "PushT-v0"
INSTRUCTION = "Push the T-shaped block onto the T-shaped target."
"""The words of LeRobot's dataset `lerobot/pusht`."""
CAMERA = "top"

INTERFACE = Interface(
    cameras=(CAMERA,),
    state=("disc x, of 512", "disc y, of 512"),
    actions={"absolute": ActionSpace(("x", "y"), "absolute", (0.0, 0.0), ((0.0, 512.0),) * 2)},
    physics_hz=100,
    control_hz=(10,),
    success="the T covers more than 95 % of its outline",
    init_states=f"a reset with the seed placement_seed + n + {N_INIT_STATES} × trial, as lerobot-eval counts",
    gl=False,
    imports=("torch", "transformers"),
)


class PushtSim(GymnasiumSim):
    """The task. What moves and success are gym-pusht's to the bit; frames are drawn when wanted."""

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Disc and block: positions, velocities, the block's angle and its rate; shape (10,)."""
        disc, block = self.environment.agent, self.environment.block
        return np.array(
            [*disc.position, *disc.velocity, *block.position, *block.velocity, block.angle, block.angular_velocity]
        )

    def begin(self, seed: int) -> None:
        """Reset the environment; it asks for no frame in this kind of observation."""
        self.environment.reset(seed=seed)

    def advance(self, action: NDArray[np.float32]) -> bool:
        """One step of the environment."""
        return bool(self.environment.step(action)[4]["is_success"])

    def state(self) -> NDArray[np.float32]:
        """Where the disc is, shape (2,)."""
        return np.array(self.environment.agent.position, dtype=np.float32)

    def render(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """The picture that gym-pusht's observations hold, without its mark of the last action."""
        del camera
        picture: NDArray[np.uint8] = self.environment._get_img(self.environment._draw(), resolution, resolution)
        return np.ascontiguousarray(picture)


class PushtWorld:
    """One suite of one task."""

    name = "pusht"
    interface = INTERFACE

    def require_installed(self) -> None:
        """Refuse to go on without gym-pusht and LeRobot.

        Raises:
            SimulatorError: Names what is missing.
        """
        require_modules(self.name, ("gym_pusht", "lerobot", "gymnasium"), "pusht")

    def suites(self) -> tuple[str, ...]:
        """The suite."""
        return (SUITE,)

    def describe(self, suite: str) -> SuiteDescription:
        """Describe the suite; nothing is imported."""
        if suite != SUITE:
            raise unknown_name("suite", suite, self.suites())
        return SuiteDescription(
            suite=suite,
            tasks=(TASK,),
            instructions=(INSTRUCTION,),
            n_init_states=(N_INIT_STATES,),
            init_states_sha256=seeds_sha256(self.name),
            versions=installed_versions(("gym-pusht", "pymunk", "gymnasium", "lerobot")),
        )

    def make(self, suite: str, task_id: int, config: SimConfig) -> PushtSim:
        """Build the task in LeRobot's factory, which imports torch."""
        self.describe(suite)
        if task_id:
            raise UsageError(f"Task {task_id} does not exist; {suite} has task 0.")
        self.require_installed()
        environment: Any = from_lerobot("pusht", task=TASK, obs_type="environment_state_agent_pos")["pusht"][0]
        return PushtSim(environment, INTERFACE, config, task=f"{suite} task 0", task_id=0, instructions=(INSTRUCTION,))
