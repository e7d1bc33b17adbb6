"""The positive control of worlds that bring a demonstrator: it does what the world says its own expert would do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.policies.controls import for_actions
from harness.policies.registry import PolicyRequest, require_bare
from harness.spec.action_space import LIBERO_ACTIONS, ActionSpace
from harness.spec.observation import ActionChunks, Observation, PolicyInfo

EXPERT_ACTION = "expert_action"
"""Name under which a world's privileged observations hold the action of its own expert."""


class ExpertPolicy:
    """Executes `Observation.privileged["expert_action"]`, one action a decision."""

    info = PolicyInfo(policy_id="expert", privileged=True)

    def __init__(self, space: ActionSpace = LIBERO_ACTIONS["relative"]) -> None:
        """Act on `space`."""
        self.info = for_actions(type(self).info, space)

    def on(self, space: ActionSpace) -> ExpertPolicy:
        """The same in another world."""
        return ExpertPolicy(space)

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Answer every observation with its expert's action.

        Raises:
            PolicyError: The world brings no expert.
        """
        del noise, nfe
        if any(EXPERT_ACTION not in seen.privileged for seen in observations):
            raise PolicyError(
                "Policy 'expert' needs a world that brings its own expert (metaworld), but this one's observations "
                f"have no {EXPERT_ACTION!r}; in LIBERO the positive control is 'scripted'."
            )
        return ActionChunks(np.stack([seen.privileged[EXPERT_ACTION] for seen in observations])[:, None].astype("f4"))


def make(spec: PolicyRequest) -> ExpertPolicy:
    """Build `expert`; it takes no options."""
    require_bare(spec)
    return ExpertPolicy()
