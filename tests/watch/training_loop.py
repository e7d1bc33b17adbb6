"""One rank of a small data-parallel training: `training_loop.py REQUEST.json RANK`. Real torch.distributed over gloo.

The request: port, timeout_s (of every collective), steps (at most), work (matrix products in a step), sleep_s,
stop_file (ends the training), save_at (steps after which rank 0 writes a checkpoint), run_dir, outbox, submit_file
(while it exists, rank 0 submits its last checkpoint after every fifth step), evaluation ("none", "inside" or "client"),
inside_s (length of an evaluation inside the loop), value (of the weights), result (prefix of the files in which each
rank leaves when its steps began and how long they took).
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from checkpoints import write_checkpoint


def main() -> None:
    """Train until the steps are done or the stop file is there."""
    import torch
    import torch.distributed as dist

    from harness import EvalClient

    request = json.loads(Path(sys.argv[1]).read_text())
    rank = int(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{request['port']}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=request["timeout_s"]),
    )
    client = EvalClient(request["outbox"]) if request["evaluation"] == "client" and rank == 0 else None
    gradient, factor = torch.ones(1024), torch.randn(384, 384)
    began_at: list[float] = []
    times: list[float] = []
    model = Path(request["run_dir"])
    for step in range(1, request["steps"] + 1):
        began = time.perf_counter()
        for _ in range(request["work"]):
            factor = torch.tanh(factor @ factor / 400)
        if request["sleep_s"]:
            time.sleep(request["sleep_s"])
        # Rank 0 says whether to go on, so that both end at the same step.
        gradient[0] = float(rank == 0 and Path(request["stop_file"]).exists())
        dist.all_reduce(gradient)
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
        if gradient[0] > 0:
            break
        gradient.fill_(1.0)
    Path(f"{request['result']}-{rank}.json").write_text(json.dumps({"began": began_at, "times": times}))
    dist.destroy_process_group()


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
