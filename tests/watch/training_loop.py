"""One rank of a small data-parallel training: `training_loop.py REQUEST.json RANK`. Real torch.distributed.

The request: port, backend ("gloo" on CPUs, "nccl" on GPU number RANK), timeout_s (of every collective), steps (at
most), width (0: `work` matrix products are a step; else a step of a `DistributedDataParallel` network of `work` layers
of that width, over `batch` rows), sleep_s, stop_file (ends the training), save_at (steps after which rank 0 writes a
checkpoint), run_dir, outbox, submit_file (while it exists, rank 0 submits its last checkpoint after every fifth step),
evaluation ("none", "inside" or "client"), inside_s (length of an evaluation inside the loop), value (of the weights),
result (prefix of the files in which each rank leaves when its steps began and how long they took).
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoints import write_checkpoint

if TYPE_CHECKING:
    import torch


def main() -> None:
    """Train until the steps are done or the stop file is there."""
    import torch
    import torch.distributed as dist

    from harness import EvalClient

    request = json.loads(Path(sys.argv[1]).read_text())
    rank = int(sys.argv[2])
    torch.set_num_threads(1)
    device = torch.device("cpu")
    if request["backend"] == "nccl":
        device = torch.device("cuda", rank)
        torch.cuda.set_device(device)
    dist.init_process_group(
        request["backend"],
        init_method=f"tcp://127.0.0.1:{request['port']}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=request["timeout_s"]),
    )
    client = EvalClient(request["outbox"]) if request["evaluation"] == "client" and rank == 0 else None
    train = NetworkStep(request, device) if request["width"] else ProductStep(request["work"])
    gradient = torch.zeros(1024, device=device)
    began_at: list[float] = []
    times: list[float] = []
    model = Path(request["run_dir"])
    for step in range(1, request["steps"] + 1):
        began = time.perf_counter()
        train()
        if request["sleep_s"]:
            time.sleep(request["sleep_s"])
        # Rank 0 says whether to go on, so that both end at the same step.
        gradient.fill_(float(rank == 0 and Path(request["stop_file"]).exists()))
        dist.all_reduce(gradient)
        ended = bool(gradient[0].item() > 0)
        if step in request["save_at"] and rank == 0:
            model = write_checkpoint(Path(request["run_dir"]), step, request["value"] + step * 1e-6)
            if client is not None:
                client.submit(model, step)
            if request["evaluation"] == "inside":
                evaluate_inside(request["inside_s"])
        if client is not None and step % 5 == 0 and Path(request["submit_file"]).exists():
            client.submit(model, step)
        began_at.append(began)
        times.append(time.perf_counter() - began)
        if ended:
            break
    Path(f"{request['result']}-{rank}.json").write_text(json.dumps({"began": began_at, "times": times}))
    dist.destroy_process_group()


class ProductStep:
    """Matrix products on one core."""

    def __init__(self, work: int) -> None:
        """Get ready for `work` products a step."""
        import torch

        self._work, self._factor = work, torch.randn(384, 384)

    def __call__(self) -> None:
        """One step."""
        import torch

        for _ in range(self._work):
            self._factor = torch.tanh(self._factor @ self._factor / 400)


class NetworkStep:
    """Forward, backward with gradients summed over the ranks, and update of a network."""

    def __init__(self, request: dict[str, Any], device: torch.device) -> None:
        """Build `work` layers of `width` on a device."""
        import torch

        width = request["width"]
        layers = [layer for _ in range(request["work"]) for layer in (torch.nn.Linear(width, width), torch.nn.GELU())]
        network = torch.nn.Sequential(*layers).to(device)
        ids = [device.index] if device.type == "cuda" else None
        self._network = torch.nn.parallel.DistributedDataParallel(network, device_ids=ids)
        self._optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
        self._batch = torch.randn(request["batch"], width, device=device)

    def __call__(self) -> None:
        """One step."""
        self._optimizer.zero_grad()
        loss = (self._network(self._batch) - self._batch).square().mean()
        loss.backward()
        self._optimizer.step()


def evaluate_inside(seconds: float) -> None:
    """An episode of the stub world in the training process, as evaluation in the loop does it."""
    import numpy as np

    from harness.worlds.base import SimConfig
    from harness.worlds.stub import StubSim

    simulator = StubSim("stub_slow", 0, SimConfig())
    simulator.reset(0)
    for _ in range(int(seconds / 0.02)):
        simulator.step(np.zeros(7, dtype=np.float32))


if __name__ == "__main__":
    main()
