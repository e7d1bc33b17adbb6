"""Real-time chunking with LeRobot's own guidance (`lerobot.policies.rtc`): a chunk that continues the old one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.policies.lerobot.families import Family
from harness.policies.lerobot.options import LerobotOptions
from harness.policies.lerobot.processors import Processors
from harness.spec.observation import Observation


def continues_chunks(config: Any, family: Family, options: LerobotOptions) -> bool:
    """Whether a policy can be guided: guidance differentiates its denoiser, and compares actions of two decisions."""
    differentiable = options.compile is None and not options.graphs and options.quantize != "int8-activations"
    return family.rtc and differentiable and not getattr(config, "use_relative_actions", False)


def alike(observations: Sequence[Observation]) -> list[list[int]]:
    """Rows that LeRobot can guide in one call: as many old actions left, as many of them frozen."""
    groups: dict[tuple[int, int] | None, list[int]] = {}
    for row, observation in enumerate(observations):
        old = observation.previous
        groups.setdefault(None if old is None else (len(old.actions), old.frozen), []).append(row)
    return list(groups.values())


def old_chunk(observations: Sequence[Observation], processors: Processors, device: torch.device) -> dict[str, Any]:
    """What `predict_action_chunk` is told of the old chunks of such rows; nothing without one.

    All that is left of them counts, falling to nothing at its end: LeRobot's horizon, ten actions by default, would not
    even freeze a longer delay.
    """
    old = [observation.previous for observation in observations if observation.previous is not None]
    if not old:
        return {}
    left = np.stack([previous.actions for previous in old])
    actions = _normalized(torch.from_numpy(left).to(device), processors)
    return {
        "prev_chunk_left_over": actions,
        "inference_delay": old[0].frozen,
        "execution_horizon": left.shape[1],
    }


def _normalized(actions: Tensor, processors: Processors) -> Tensor:
    """Actions of the robot as the policy has them, (B, T, 7), by the checkpoint's own statistics."""
    from lerobot.processor import NormalizerProcessorStep, TransitionKey, create_transition

    for step in processors.pre.steps:
        if isinstance(step, NormalizerProcessorStep):
            found: Tensor = step(create_transition(action=actions))[TransitionKey.ACTION]
            return found
    return actions


@contextmanager
def guidance(policy: Any, nfe: int | None) -> Iterator[None]:
    """Let a policy's sampler guide: as the checkpoint says, else as LeRobot does by default.

    The limit of the pull is at most the number of steps: a step of 1/NFE then goes the whole way and no further.
    """
    from lerobot.policies.rtc.configuration_rtc import RTCConfig

    config, before = policy.config, policy.config.rtc_config
    asked = before or RTCConfig()
    limit = min(asked.max_guidance_weight, float(nfe or 1))
    config.rtc_config = replace(asked, enabled=True, max_guidance_weight=limit)
    policy.init_rtc_processor()
    try:
        yield
    finally:
        config.rtc_config = before
