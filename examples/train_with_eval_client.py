"""Plain PyTorch, data parallel, and three lines that have every checkpoint evaluated by somebody else.

    torchrun --nproc-per-node 2 examples/train_with_eval_client.py --out outputs/tiny
    harness watch --outbox outputs/tiny/outbox --suite seed --policy-kind flow    # another shell, machine or day

A small flow policy learns from random data, which teaches it nothing: what matters is what rank 0 does at the end of
the loop. `train_flow.py` learns from recorded episodes; LeRobot's own training is wrapped in `lerobot_train.py`.
"""

from __future__ import annotations

import argparse
import os
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import harness
from harness.policies.flow import Batch, FlowConfig, random_network, save_network
from harness.spec.observation import ACTION_DIM, CAMERAS

STATE_DIM = 8


def random_batch(config: FlowConfig, size: int) -> Batch:
    """Noise in place of observations."""
    return Batch(
        images=torch.rand(size, len(CAMERAS), 3, config.image_size, config.image_size),
        tokens=torch.randint(config.text_buckets, (size, config.text_tokens)),
        text_mask=torch.ones(size, config.text_tokens, dtype=torch.bool),
        state=torch.randn(size, STATE_DIM),
    )


def main() -> None:
    """Train, save, submit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=50)
    options = parser.parse_args()
    rank = int(os.environ.get("RANK", "0"))
    if "RANK" in os.environ:
        # However long an evaluation takes, no collective ever waits for it: a short limit is safe.
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))

    config = FlowConfig()
    network = random_network(config, seed=0)
    model = DistributedDataParallel(network) if dist.is_initialized() else network
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    client = harness.EvalClient(options.out / "outbox") if rank == 0 else None

    for step in range(1, options.steps + 1):
        actions, noise = torch.rand(2, config.chunk_length, ACTION_DIM), torch.randn(2, config.chunk_length, ACTION_DIM)
        time = torch.rand(2)
        noisy = torch.lerp(actions, noise, time[:, None, None])
        loss = (model(random_batch(config, 2), noisy, time) - (noise - actions)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if client is not None and step % options.save_every == 0:
            checkpoint = options.out / "checkpoints" / f"{step:06d}"
            save_network(network, checkpoint)
            client.submit(checkpoint, step)
            for result in client.poll():
                print(
                    f"step {result['step']}: success {result['rate']:.0%} [{result['low']:.0%}, {result['high']:.0%}]"
                )
    if client is not None:
        client.close()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
