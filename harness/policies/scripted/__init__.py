"""The positive control: an expert on privileged object poses for libero_spatial and libero_object.

If it fails, the harness or the simulator is broken, not the policy. It reads the observation only: object poses, its
own pose, and the instruction, which names the object and the place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.policies.registry import PolicyRequest, require_bare
from harness.policies.scripted.phases import Expert
from harness.policies.scripted.recipes import SUPPORTED_SUITES, read_job
from harness.spec.observation import ActionChunks, Observation, PolicyInfo

__all__ = ["SUPPORTED_SUITES", "ScriptedPolicy", "make"]


class ScriptedPolicy:
    """Picks the named object and places it; keeps one `Expert` per running episode."""

    info = PolicyInfo(policy_id="scripted", privileged=True, suites=SUPPORTED_SUITES)

    def __init__(self) -> None:
        """Start without episodes."""
        self._experts: dict[str, Expert] = {}

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Decide one action for each observation.

        Raises:
            PolicyError: A task is of no supported suite, or the object poses are missing.
        """
        del noise, nfe
        return ActionChunks(np.stack([self._expert(seen).act(seen) for seen in observations])[:, np.newaxis])

    def end_episode(self, episode_key: str) -> None:
        """Forget an episode."""
        self._experts.pop(episode_key, None)

    def _expert(self, seen: Observation) -> Expert:
        if seen.decision == 0 or seen.episode_key not in self._experts:
            self._experts[seen.episode_key] = Expert(read_job(seen.instruction, seen.privileged))
        return self._experts[seen.episode_key]


def make(spec: PolicyRequest) -> ScriptedPolicy:
    """Build `scripted`; it takes no options."""
    require_bare(spec)
    return ScriptedPolicy()
