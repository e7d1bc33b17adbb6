"""Real-time chunking for `flow`: the sampler is guided so that the new chunk continues the old one.

Black, Galliker & Levine 2025, arXiv:2506.07339: flow matching is steered by pseudo-inverse guidance towards the part of
the old chunk that is still ahead. Actions that will be executed before the answer is in hand count fully (they are
frozen), those after them less and less, those beyond the old chunk not at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.policies.flow.network import Normalization
from harness.spec.observation import Observation

MAX_GUIDANCE = 5.0
"""β of the paper, chosen there for 5 denoising steps: a step of 1/5 then goes the whole way and no further. With fewer
steps their number takes its place, for the same reason."""


class OldChunk(NamedTuple):
    """What a batch of chunks is guided to."""

    actions: Tensor
    """Old actions, normalised, (B, T, 7); of no meaning where their weight is 0."""
    weights: Tensor
    """How much each of them counts, (B, T, 1), in [0, 1]."""


def target_of(
    observations: Sequence[Observation],
    chunk_length: int,
    normalization: Normalization,
    device: torch.device,
    horizon: int | None = None,
) -> OldChunk | None:
    """What the chunks have to continue; None where no observation has an old chunk.

    Args:
        observations: With their old chunks.
        chunk_length: Actions in a chunk, T.
        normalization: Of actions.
        device: Where the policy runs.
        horizon: How many of the old actions count, from the first; None: all. Frozen ones do in any case.
    """
    if all(observation.previous is None for observation in observations):
        return None
    actions = torch.zeros(len(observations), chunk_length, 7)
    weights = torch.zeros(len(observations), chunk_length, 1)
    for row, observation in enumerate(observations):
        if observation.previous is not None:
            left = len(observation.previous.actions)
            actions[row, :left] = torch.from_numpy(observation.previous.actions.copy())
            frozen = observation.previous.frozen
            counted = left if horizon is None else min(left, max(horizon, frozen))
            weights[row, :counted, 0] = prefix_weights(frozen, counted)
    # Together, since each copy to a GPU waits for it.
    return OldChunk(normalization.actions(actions.to(device)), weights.to(device))


def prefix_weights(frozen: int, left: int) -> Tensor:
    """Weight of each old action that counts, (left,): 1 for the frozen ones, then falling to 0 (equation 5)."""
    ahead = torch.arange(left, dtype=torch.float32)
    share = ((left - ahead) / (left - frozen + 1)).clamp(max=1.0)
    falling = share * torch.expm1(share) / (math.e - 1)
    return torch.where(ahead < frozen, torch.ones(left), falling)


def guided(velocity: Callable[[Tensor], Tensor], x: Tensor, time: Tensor, weight: Tensor, target: OldChunk) -> Tensor:
    """The velocity at x (B, T, 7) with the guidance added.

    Args:
        velocity: x to its velocity; differentiated here.
        x: Noisy chunk, normalised.
        time: From 1 (noise) to 0 (actions), (B,).
        weight: How strongly the error pulls, a scalar; see `guidance_weight`.
        target: Where to.
    """
    # The fused kernels of attention sum their gradients in whatever order a GPU finishes: not the same twice.
    exact = sdpa_kernel(SDPBackend.MATH) if x.is_cuda else nullcontext()
    with torch.enable_grad(), exact:
        x = x.detach().requires_grad_(True)
        v = velocity(x)
        ahead = x - time[:, None, None] * v
        error = ((target.actions - ahead) * target.weights).detach()
        (pull,) = torch.autograd.grad(ahead, x, error)
    return v.detach() - weight * pull


def guidance_weight(time: float, nfe: int) -> float:
    """How strongly the error pulls (equation 2) at a time from 1 to 0, which is 1 - τ of the paper."""
    limit = min(MAX_GUIDANCE, float(nfe))
    tau = 1.0 - time
    if tau <= 0:
        return limit
    r2 = time**2 / (tau**2 + time**2)
    return min(limit, time / (tau * r2)) if r2 > 0 else limit
