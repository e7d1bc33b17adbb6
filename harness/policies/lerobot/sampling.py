"""Steps and noise into LeRobot's samplers, by the route that each policy type offers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import PolicyError
from harness.policies.lerobot.chunking import guidance
from harness.policies.lerobot.families import Family
from harness.policies.lerobot.randomness import KeyedDraws, generators
from harness.policies.lerobot.snapflow import TargetTime
from harness.policies.lerobot.spans import resolve

SEED_WORDS = 4
"""Numbers of keyed noise that seed the draws of a sampler that takes no noise."""


class Sampler:
    """Runs `predict_action_chunk` at a number of steps from given noise; nothing is drawn from the global generator."""

    def __init__(self, policy: Any, family: Family, target_time: TargetTime | None = None) -> None:
        """Drive `policy`, of type `family`; `target_time` is the handle of a SnapFlow head."""
        self.policy = policy
        self.family = family
        self.target_time = target_time
        field = family.stepwise_draws
        self.draws = family.noise == "intercepted" or (
            field is not None and getattr(policy.config, field[0]) == field[1]
        )

    def run(
        self,
        batch: dict[str, Any],
        noise: Tensor | None,
        seeds: NDArray[np.float32] | None,
        nfe: int | None,
        old: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Sample a chunk per row of the batch.

        Args:
            batch: What the preprocessor returned.
            noise: Initial noise on the device, for policies that take it.
            seeds: The same noise in numpy, shape (B, …): what step-wise draws are keyed by.
            nfe: Function evaluations; None for policies without a loop.
            old: From `harness.policies.lerobot.chunking.old_chunk`: what the chunks have to continue.

        Returns:
            Normalised actions, shape (B, T, action dimension).

        Raises:
            PolicyError: The sampler drew random numbers outside its keyed noise.
        """
        arguments: dict[str, Any] = dict(old or {})
        if self.family.noise == "argument":
            arguments["noise"] = noise
        if nfe is not None and self.family.nfe_route == "argument":
            arguments["num_steps"] = nfe
        with ExitStack() as stack:
            if old:
                stack.enter_context(guidance(self.policy, nfe))
            if nfe is not None and self.family.nfe_route != "argument":
                stack.enter_context(self._steps_set(nfe))
            if nfe is not None and self.target_time is not None:
                stack.enter_context(self.target_time.steps(nfe))
            if self.draws and seeds is not None:
                stack.enter_context(_global_generator_untouched(self.policy))
                stack.enter_context(KeyedDraws(generators(seeds)))
            chunk: Tensor = self.policy.predict_action_chunk(batch, **arguments)
        return chunk

    @contextmanager
    def _steps_set(self, nfe: int) -> Iterator[None]:
        path = self.family.nfe_path or f"config.{self.family.nfe_key}"
        owner_path, _, name = path.rpartition(".")
        owner = resolve(self.policy, owner_path)
        before = getattr(owner, name)
        setattr(owner, name, nfe)
        try:
            yield
        finally:
            setattr(owner, name, before)


@contextmanager
def _global_generator_untouched(policy: Any) -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        raise PolicyError(
            f"{type(policy).__name__} drew random numbers in a way that cannot be keyed to the episode; its actions "
            "would depend on the batch. Report the policy type; it cannot be run reproducibly."
        )
