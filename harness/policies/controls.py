"""The negative controls: a policy that does nothing and one that acts at random. Neither should solve anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.policies.base import require_noise
from harness.policies.registry import PolicyRequest, require_bare
from harness.spec.observation import ACTION_DIM, ActionChunks, Observation, PolicyInfo

CHUNK_LENGTH = 10
"""Actions a decision, as long as the chunks of LIBERO fine-tunes, so that controls are driven the way they are."""

SETTLE_ACTION = np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32)
"""LIBERO's dummy action: hold the pose, gripper open."""


class NoopPolicy:
    """Holds the pose with an open gripper."""

    info = PolicyInfo(policy_id="noop", chunk_length=CHUNK_LENGTH, replan_interval=CHUNK_LENGTH)

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Answer every observation with a chunk of the settle action."""
        del noise, nfe
        return ActionChunks(np.tile(SETTLE_ACTION, (len(observations), CHUNK_LENGTH, 1)))


class RandomPolicy:
    """Draws every component of every action uniformly from [-1, 1], from the noise it is handed."""

    info = PolicyInfo(
        policy_id="random",
        chunk_length=CHUNK_LENGTH,
        replan_interval=CHUNK_LENGTH,
        noise_shape=(CHUNK_LENGTH, ACTION_DIM),
    )

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Map the noise through the normal distribution function, which turns a normal variate into a uniform one.

        Raises:
            PolicyError: The noise is missing or of another shape.
        """
        from scipy.special import ndtr

        del nfe
        require_noise(self.info, noise, len(observations))
        return ActionChunks((2 * ndtr(np.asarray(noise, dtype=np.float64)) - 1).astype(np.float32))


def make_noop(spec: PolicyRequest) -> NoopPolicy:
    """Build `noop`; it takes no options."""
    require_bare(spec)
    return NoopPolicy()


def make_random(spec: PolicyRequest) -> RandomPolicy:
    """Build `random`; it takes no options."""
    require_bare(spec)
    return RandomPolicy()
