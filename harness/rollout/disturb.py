"""Noise on executed actions, so that demonstrations show how to come back from where an expert never goes.

An expert's own trajectories cover a narrow tube, and a policy that imitates them drifts out of it. So the action that
is executed differs from the one that is recorded: the label stays what the expert wanted, and its next labels correct
what the noise did (Laskey et al. 2017, DART, arXiv 1703.09327).

White noise at 20 Hz is averaged away by the controller, therefore noise is smooth, over `WINDOW` control steps; and it
comes in bursts, so that half of every episode is as precise as the expert is.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from harness.schedule.keys import noise_generator
from harness.spec.action_space import LIBERO_ACTIONS, ActionSpace
from harness.spec.observation import Observation
from harness.worlds.base import Credit, SimTimings, Simulator, StepResult, credit_of

WINDOW = 8
"""Control steps over which the noise is averaged, 0.4 s at 20 Hz."""
BURST = 20
"""Control steps of a burst, or of a pause."""
BURST_SHARE = 0.5
"""Probability that a stretch of `BURST` steps is a burst."""
_GATES = 2**32


def action_noise(
    episode_key: str, step: int, sigma: float, space: ActionSpace = LIBERO_ACTIONS["relative"]
) -> NDArray[np.float32]:
    """Noise on the action of one control step: a pure function of its arguments.

    Args:
        episode_key: 64 hex digits. The draws share nothing with those of policies in the same episode.
        step: Control step, from 0.
        sigma: Standard deviation within a burst, in action units (in LIBERO 1.0 commands 5 cm or 0.5 rad).
        space: What an action is.

    Returns:
        Shape (D,); zero in pauses, and always zero for what is latched (the gripper).
    """
    noise = np.zeros(space.dim, dtype=np.float32)
    moving = [i for i in range(space.dim) if i not in space.latched]
    key = hashlib.sha256(f"action noise {episode_key}".encode()).hexdigest()
    if sigma > 0 and noise_generator(key, _GATES + step // BURST).random() < BURST_SHARE:
        draws = [
            noise_generator(key, at).standard_normal(len(moving)) for at in range(max(0, step - WINDOW + 1), step + 1)
        ]
        noise[moving] = sigma * np.sum(draws, axis=0) / np.sqrt(WINDOW)
    return noise


class DisturbedSimulator:
    """A simulator that executes something slightly else than it is told."""

    def __init__(self, inner: Simulator, sigma: float) -> None:
        """Disturb `inner` by `action_noise` of standard deviation `sigma`."""
        self.inner = inner
        self.executed: list[NDArray[np.float32]] = []
        """What was executed since the last reset, each in the range of the action space."""
        self._sigma, self._key = sigma, ""

    @property
    def instruction(self) -> str:
        """The task in words."""
        return self.inner.instruction

    @property
    def action_space(self) -> ActionSpace:
        """What `step` takes."""
        return self.inner.action_space

    @property
    def timings(self) -> SimTimings:
        """Seconds since the last reset began."""
        return self.inner.timings

    @property
    def credit(self) -> Credit | None:
        """How far the episode came; None where the world does not say."""
        return credit_of(self.inner)

    @property
    def qpos(self) -> NDArray[np.float64]:
        """Generalised positions, shape (nq,), a copy."""
        return self.inner.qpos

    @property
    def eef_position(self) -> NDArray[np.float64] | None:
        """Position of the end effector, shape (3,), metres; None where the simulator has none."""
        return getattr(self.inner, "eef_position", None)

    def reset(
        self, init_state_id: int, *, trial: int = 0, episode_key: str = "", observe: bool = True
    ) -> Observation | None:
        """Start an episode; its key decides the noise."""
        self.executed, self._key = [], episode_key
        return self.inner.reset(init_state_id, trial=trial, episode_key=episode_key, observe=observe)

    def step(self, action: NDArray[np.float32], observe: bool = False) -> StepResult:
        """Execute the action with its noise, clipped to its range."""
        wanted = np.asarray(action, dtype=np.float32)
        if self._sigma > 0:
            noise = action_noise(self._key, len(self.executed), self._sigma, self.action_space)
            wanted = self.action_space.clip(wanted + noise)
        self.executed.append(wanted.copy())
        return self.inner.step(wanted, observe=observe)

    def frame(self, camera: str, resolution: int) -> NDArray[np.uint8]:
        """Render for a video."""
        return self.inner.frame(camera, resolution)

    def close(self) -> None:
        """Close the simulator."""
        self.inner.close()
