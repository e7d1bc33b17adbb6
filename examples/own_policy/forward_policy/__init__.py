"""A policy of your own: it presses on along x. Copy the package, and put your model where the chunk is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.policies.base import require_noise
from harness.spec.observation import ActionChunks, Observation, PolicyInfo
from harness.spec.policy import PolicySpec

CHUNK = 10
"""Actions of one decision."""


class Forward:
    """Moves along x at `speed`, gripper open, and sways by `sway` times its noise."""

    def __init__(self, speed: float = 1.0, sway: float = 0.0) -> None:
        """Load weights here: it is called once in each process that decides.

        Args:
            speed: Of full speed along x, in [-1, 1].
            sway: Standard deviation of what is added along y.
        """
        self.info = PolicyInfo(
            policy_id="forward",
            cameras=("agentview",),  # only these are rendered
            chunk_length=CHUNK,
            replan_interval=CHUNK,
            noise_shape=(CHUNK, 1) if sway else None,  # what `act` is given for each observation, standard normal
        )
        self._speed, self._sway = speed, sway

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Decide for B observations at once.

        Args:
            observations: Each with `instruction`, `state` (8,) in m and rad, `images` camera → (H, W, 3) uint8.
            noise: (B, CHUNK, 1) where `info.noise_shape` asks for it, else None; draw none of your own.
            nfe: Of a policy that denoises; this one does not.

        Returns:
            Actions (B, CHUNK, 7) float32: delta position (3), delta axis-angle (3), gripper (-1 opens), in [-1, 1].
        """
        del nfe
        require_noise(self.info, noise, len(observations))
        actions = np.zeros((len(observations), CHUNK, 7), np.float32)
        actions[..., 0], actions[..., 6] = self._speed, -1.0
        if noise is not None:
            actions[..., 1] = self._sway * noise[..., 0]
        return ActionChunks(actions)


def make(spec: PolicySpec) -> Forward:
    """Build what the command line asks for: `forward`, or `forward?speed=0.5&sway=0.1`.

    Args:
        spec: `spec.path` is what stands behind the colon, `spec.options` what stands behind the question mark.
    """
    return Forward(**{name: float(value) for name, value in spec.options.items()})
