"""`flow` with noise on its actions: a candidate that is truly worse, to see when a gate notices.

    PYTHONPATH=examples harness run libero_spatial --nfe 1 --episodes 3 --out reports/degraded \
        -p flow -p 'python:degraded_flow:noisy?sigma=0.25' -p 'python:degraded_flow:noisy?sigma=0.5'
    harness compare reports/degraded reports/degraded --base-policy flow --policy 'python:degraded_flow:noisy?sigma=0.5'

Unlike the protocol's `action_noise`, this belongs to the policy, so that its episodes pair with those of `flow`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.policies.registry import PolicyRequest, make_policy
from harness.schedule.keys import noise_generator
from harness.spec.observation import ActionChunks, Observation
from harness.spec.policy import PolicySpec


class Noisy:
    """Adds normal noise to every motion of every action, the same for an episode's decision in every run."""

    def __init__(self, spec: PolicyRequest) -> None:
        """Take the option `sigma`, the standard deviation in action units (1.0 commands 5 cm or 0.5 rad)."""
        self.sigma = float(spec.options.get("sigma", 0.25))
        self.inner = make_policy(PolicySpec(kind="flow"))
        self.info = replace(self.inner.info, policy_id=spec.label)

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Let `flow` decide, and disturb what it decided."""
        chunks = self.inner.act(observations, noise, nfe=nfe)
        actions = np.array(chunks.actions)
        for row, seen in enumerate(observations):
            key = hashlib.sha256(f"degraded {seen.episode_key}".encode()).hexdigest()
            drawn = noise_generator(key, seen.decision).standard_normal((actions.shape[1], 6))
            actions[row, :, :6] += self.sigma * drawn
        return replace(chunks, actions=actions.clip(-1, 1).astype(np.float32))


def noisy(spec: PolicyRequest) -> Noisy:
    """Factory of `python:degraded_flow:noisy?sigma=…`."""
    return Noisy(spec)
