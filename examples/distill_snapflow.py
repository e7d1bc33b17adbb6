"""Distil a trained `flow` into a one-step student by SnapFlow's recipe (arXiv 2604.05656).

    python examples/distill_snapflow.py --teacher runs/teacher/final --data DIR --out runs/student --steps 4000

The expert F(x, s, t) is also told the time s that its step ends at, through a two-layer MLP that is zero at first, so
that the student begins as the teacher. L = alpha * L_FM + (1 - alpha) * lambda * L_shortcut, alpha = 0.5, lambda = 0.1:

- L_FM keeps the instantaneous velocity, F(x_t, s = t, t), at noise - actions.
- L_shortcut has one step from noise, F(x_1, s = 0, t = 1), agree with the mean of two Euler half steps of the student
  itself, without gradient: v = (F(x_1, 1, 1) + F(x_1 - F(x_1, 1, 1) / 2, 1/2, 1/2)) / 2.

Vision encoder and prefix are frozen. Data, seeds and resuming are as in `train_flow.py`, which must lie beside this.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from train_flow import Draw, Training, draw, parser, repeat, start, train

from harness.policies.flow import FlowNetwork, load_network, random_network
from harness.policies.flow.network import Batch, Cache

ALPHA, LAMBDA = 0.5, 0.1
LARGEST = 20.0
"""Clamp of the target velocity, which implementations of the recipe agree on."""


def student_of(teacher: FlowNetwork, seed: int) -> FlowNetwork:
    """A network that computes what the teacher does, with a target-time head at zero, prefix and vision frozen.

    Args:
        teacher: Without a head.
        seed: Of the head's inner layer.
    """
    student = random_network(replace(teacher.config, target_time=True, default_nfe=1), seed)
    student.load_state_dict(teacher.state_dict(), strict=False)
    head = student.expert.target_out
    if head is None:
        raise SystemExit("The network has no target-time head.")
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    for module in (student.vision, student.prefix):
        module.requires_grad_(False)
    return student


def shortcut_target(network: FlowNetwork, noise: Tensor, cache: Cache) -> Tensor:
    """Mean velocity of two Euler half steps from noise (B, T, 7), without gradient."""
    with torch.no_grad():
        one = torch.ones(len(noise), device=noise.device)
        first = network.expert(noise, one, cache)
        second = network.expert(noise - 0.5 * first, 0.5 * one, cache)
        return (0.5 * (first + second)).clamp(-LARGEST, LARGEST)


def snapflow_loss(network: FlowNetwork, batch: Batch, sample: Draw, draws: int) -> Tensor:
    """SnapFlow's loss of a batch."""
    with torch.no_grad():
        cache = repeat(network.encode_prefix(network.encode_vision(batch), batch), draws)
    flow = network.expert(sample.noisy, sample.time, cache) - (sample.noise - sample.actions)
    one = torch.ones_like(sample.time)
    jump = network.expert(sample.noise, one, cache, torch.zeros_like(one))
    shortcut = jump - shortcut_target(network, sample.noise, cache)
    return ALPHA * sample.mean_square(flow) + (1 - ALPHA) * LAMBDA * sample.mean_square(shortcut)


def main(argv: list[str] | None = None) -> None:
    """Distil."""
    made = parser()
    made.description = __doc__
    made.add_argument("--teacher", type=Path, required=True, help="folder of the teacher's checkpoint")
    made.set_defaults(lr=2e-4, warmup=100)
    options: Namespace = made.parse_args(argv)
    teacher, _ = load_network(options.teacher)
    data = start(options, teacher.config)

    def loss(network: FlowNetwork, batch: Batch, chunks: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        return snapflow_loss(network, batch, draw(network, chunks, valid, options.draws, generator), options.draws)

    train(Training(student_of(teacher, options.seed), loss, options), options, data, "student")


if __name__ == "__main__":
    main()
