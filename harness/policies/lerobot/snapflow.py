"""SnapFlow students on Pi0.5: a target-time head, and one step from noise to actions (arXiv 2604.05656).

The head is a 2-layer MLP over the sinusoidal embedding of the target time s, zero-initialised in its last layer and
added to the time embedding that conditions the action expert: F(x, s, t). At its initialisation it adds exact zeros, so
that the student is the teacher. One evaluation uses s = 0 and t = 1: x0 = x1 − F(x1, 0, 1), which is one Euler step of
length 1; more evaluations use s = t, the instantaneous velocity that the flow-matching half of the loss trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = ("target_time_mlp_in", "target_time_mlp_out")
"""Names of the head's layers in the model."""

HEAD_SPELLINGS: Mapping[str, tuple[str, str]] = {
    "named": HEAD,
    "numbered": ("target_time_mlp_1", "target_time_mlp_2"),
    "sequential": ("target_time_mlp.0", "target_time_mlp.2"),
}
"""Names that published students give the two layers."""

TENSORS = ("weight", "bias")
HEAD_TENSORS = tuple(f"model.{layer}.{tensor}" for layer in HEAD for tensor in TENSORS)
"""The head's tensors, by their names in the policy."""


@dataclass(slots=True)
class TargetTime:
    """The target time of the evaluation under way."""

    one_step: bool = False
    """True: s = 0. False: s = t."""

    @contextmanager
    def steps(self, nfe: int) -> Iterator[None]:
        """Choose s for a sampler run of `nfe` evaluations."""
        before, self.one_step = self.one_step, nfe == 1
        try:
            yield
        finally:
            self.one_step = before


def head_names(stored: Iterable[str]) -> dict[str, str]:
    """Find the head in a checkpoint.

    Args:
        stored: Tensor names of the file, with or without a leading "model." or "_model.".

    Returns:
        Model name → file name for the four tensors; empty when the checkpoint has no head.
    """
    stripped = {name.removeprefix("model.").removeprefix("_model."): name for name in stored}
    for spelling in HEAD_SPELLINGS.values():
        found = {
            f"model.{ours}.{tensor}": stripped.get(f"{theirs}.{tensor}", "")
            for ours, theirs in zip(HEAD, spelling, strict=True)
            for tensor in TENSORS
        }
        if all(found.values()):
            return found
    return {}


def attach(model: Any, hidden: int | None = None) -> TargetTime:
    """Give a `PI05Pytorch` its target-time head, zero-initialised.

    Args:
        model: `PI05Policy.model`.
        hidden: Width of the head's hidden layer; None for the width of the action expert.

    Returns:
        The handle that chooses the target time.
    """
    from lerobot.policies.common.vla_utils import create_sinusoidal_pos_embedding

    width = model.action_in_proj.out_features
    parameter = model.time_mlp_in.weight
    place = {"device": parameter.device, "dtype": parameter.dtype}
    model.target_time_mlp_in = nn.Linear(width, hidden or width, **place)
    model.target_time_mlp_out = nn.Linear(hidden or width, width, **place)
    nn.init.zeros_(model.target_time_mlp_out.weight)
    nn.init.zeros_(model.target_time_mlp_out.bias)
    target = TargetTime()
    embed_suffix = model.embed_suffix

    def with_target_time(noisy_actions: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        embedded, pad_masks, att_masks, condition = embed_suffix(noisy_actions, timestep)
        goal = torch.zeros_like(timestep) if target.one_step else timestep
        features = create_sinusoidal_pos_embedding(
            goal, width, min_period=model.config.min_period, max_period=model.config.max_period, device=goal.device
        ).type(dtype=timestep.dtype)
        head = model.target_time_mlp_out(F.silu(model.target_time_mlp_in(features)))
        return embedded, pad_masks, att_masks, condition + head

    model.embed_suffix = with_target_time
    return target
