"""The negative controls: a policy that does nothing and one that acts at random. Neither should solve anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.policies.base import require_noise
from harness.policies.registry import PolicyRequest, require_bare
from harness.spec.action_space import LIBERO_ACTIONS, ActionSpace
from harness.spec.observation import ActionChunks, Observation, PolicyInfo

CHUNK_LENGTH = 10
"""Actions a decision, as long as the chunks of LIBERO fine-tunes, so that controls are driven the way they are."""


def for_actions(info: PolicyInfo, space: ActionSpace) -> PolicyInfo:
    """What a control says of itself where actions are those of `space`."""
    noise = None if info.noise_shape is None else (info.chunk_length, space.dim)
    return replace(info, action_dim=space.dim, control_mode=space.mode, noise_shape=noise)


class NoopPolicy:
    """Holds the pose; in LIBERO with an open gripper, as its dummy action does."""

    info = PolicyInfo(policy_id="noop", chunk_length=CHUNK_LENGTH, replan_interval=CHUNK_LENGTH)

    def __init__(self, space: ActionSpace = LIBERO_ACTIONS["relative"]) -> None:
        """Act on `space`."""
        self._space = space
        self.info = for_actions(type(self).info, space)

    def on(self, space: ActionSpace) -> NoopPolicy:
        """The same in another world."""
        return NoopPolicy(space)

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Answer every observation with a chunk of what holds the robot still."""
        del noise, nfe
        held = np.stack([self._space.hold(None, seen.state) for seen in observations])
        return ActionChunks(np.repeat(held[:, np.newaxis], CHUNK_LENGTH, axis=1))


class RandomPolicy:
    """Draws every component of every action uniformly from its range, from the noise it is handed."""

    info = PolicyInfo(
        policy_id="random",
        chunk_length=CHUNK_LENGTH,
        replan_interval=CHUNK_LENGTH,
        noise_shape=(CHUNK_LENGTH, LIBERO_ACTIONS["relative"].dim),
    )

    def __init__(self, space: ActionSpace = LIBERO_ACTIONS["relative"]) -> None:
        """Act on `space`."""
        self._space = space
        self.info = for_actions(type(self).info, space)

    def on(self, space: ActionSpace) -> RandomPolicy:
        """The same in another world."""
        return RandomPolicy(space)

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
        return ActionChunks(self._space.spread(2 * ndtr(np.asarray(noise, dtype=np.float64)) - 1))


def make_noop(spec: PolicyRequest) -> NoopPolicy:
    """Build `noop`; it takes no options."""
    require_bare(spec)
    return NoopPolicy()


def make_random(spec: PolicyRequest) -> RandomPolicy:
    """Build `random`; it takes no options."""
    require_bare(spec)
    return RandomPolicy()
