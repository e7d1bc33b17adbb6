"""Batched policy serving: decisions per second against the number of episodes served at once, and against no batching.

Run: `python tests/benchmarks/bench_serving.py --policy 'lerobot:pi05?weights=random&dtype=bfloat16' --nfe 10`.

Each client stands for one episode: it asks, waits for its chunk, and asks again, with no simulation in between, so that
the server is always the bottleneck. What is measured is the batcher of the policy servers (`harness.serve.batching`)
in front of the real policy, without Ray's transport. The unbatched server answers the same clients one at a time.
Batched and unbatched rounds alternate in one process. Also printed: what the harness adds at batch 1 to the policy's
own `predict_action_chunk` on a prepared batch (LeRobot policies only).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from harness.latency import synthetic_observations
from harness.policies.base import Policy
from harness.policies.registry import make_policy
from harness.schedule.keys import decision_noise
from harness.serve.batching import Batcher
from harness.spec.observation import Observation
from harness.spec.policy import parse_policy
from harness.time_source import WallTime

KEY = "5e" * 32
"""An episode key: noise of the benchmark is keyed as in a run."""


async def serve(policy: Policy, clients: int, max_batch: int, seconds: float, nfe: int | None) -> dict[str, Any]:
    """Let `clients` ask for `seconds`; decisions per second, batch latency and queue time in milliseconds."""
    batcher = Batcher(policy, max_batch=max_batch, max_wait_s=0.01, clock=WallTime(), n_clients=clients)
    observations = synthetic_observations(clients)
    infer, queue, sizes = [], [], []
    deadline = time.perf_counter() + seconds

    async def client(observation: Observation) -> None:
        decision = 0
        while time.perf_counter() < deadline:
            shape = policy.info.noise_shape
            noise = None if shape is None else decision_noise(KEY, decision, shape)
            decided = await batcher.submit(observation, noise, nfe)
            infer.append(decided.infer_ms)
            queue.append(decided.queue_ms)
            sizes.append(decided.batch_size)
            decision += 1

    began = time.perf_counter()
    await asyncio.gather(*(client(observation) for observation in observations))
    wall = time.perf_counter() - began
    return {
        "per_s": len(infer) / wall,
        "infer_ms": float(np.median(infer)),
        "queue_ms": float(np.median(queue)),
        "batch": float(np.mean(sizes)),
        "n": len(infer),
    }


def timed_ms(call: Callable[[], Any], synchronize: Callable[[], None], samples: int) -> list[float]:
    """Durations of a call, milliseconds, synchronised."""
    durations = []
    for _ in range(samples):
        began = time.perf_counter()
        call()
        synchronize()
        durations.append((time.perf_counter() - began) * 1e3)
    return durations


def overhead(policy: Any, nfe: int, rounds: int = 12, samples: int = 3) -> dict[str, float]:
    """`act` at batch 1 over `predict_action_chunk` on a prepared batch: medians of interleaved rounds."""
    import torch

    observation = synthetic_observations(1)
    noise = decision_noise(KEY, 0, policy.info.noise_shape)[None]

    def synchronize() -> None:
        if policy.device.type == "cuda":
            torch.cuda.synchronize(policy.device)

    prepared = policy.processors.pre(policy.reader.read(observation))
    tensor = torch.from_numpy(noise).to(policy.device)

    def bare() -> Any:
        with torch.inference_mode(), policy._numerics():
            return policy.policy.predict_action_chunk(prepared, noise=tensor, num_steps=nfe)

    pairs = []
    for _ in range(rounds):
        whole = median(timed_ms(lambda: policy.act(observation, noise, nfe=nfe), synchronize, samples))
        inner = median(timed_ms(bare, synchronize, samples))
        pairs.append((whole, inner))
    return {
        "act_ms": median(whole for whole, _ in pairs),
        "predict_action_chunk_ms": median(inner for _, inner in pairs),
        "ratio": median(whole / inner for whole, inner in pairs),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write it as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="flow")
    parser.add_argument("--nfe", type=int, default=10)
    parser.add_argument("--clients", default="1,4,16,32")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    policy = make_policy(parse_policy(options.policy))
    device = getattr(policy, "device", "cpu")
    results: dict[str, Any] = {"policy": options.policy, "nfe": options.nfe, "device": _device_name(device), "rows": []}
    print(f"{options.policy} at NFE {options.nfe} on {results['device']}")
    print("episodes  decisions/s  batch  batch ms  queue ms  unbatched decisions/s  ratio")
    for clients in (int(part) for part in options.clients.split(",")):
        asyncio.run(serve(policy, clients, clients, 0.5, options.nfe))
        rounds = []
        for _ in range(options.rounds):
            batched = asyncio.run(serve(policy, clients, clients, options.seconds, options.nfe))
            alone = asyncio.run(serve(policy, clients, 1, options.seconds, options.nfe))
            rounds.append((batched, alone))
        ratio = median(batched["per_s"] / alone["per_s"] for batched, alone in rounds)
        batched, alone = rounds[-1]
        row = {"clients": clients, **batched, "unbatched_per_s": alone["per_s"], "ratio": ratio}
        results["rows"].append(row)
        print(
            f"{clients:8d}  {row['per_s']:11.1f}  {row['batch']:5.1f}  {row['infer_ms']:8.1f}  {row['queue_ms']:8.1f}"
            f"  {row['unbatched_per_s']:21.1f}  {row['ratio']:5.2f}"
        )
    if options.policy.startswith("lerobot:"):
        results["overhead"] = overhead(policy, options.nfe)
        added = results["overhead"]
        print(
            f"act {added['act_ms']:.2f} ms, predict_action_chunk alone {added['predict_action_chunk_ms']:.2f} ms, "
            f"ratio {added['ratio']:.3f} (batch 1)"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def _device_name(device: Any) -> str:
    if getattr(device, "type", "cpu") != "cuda":
        return "cpu"
    import torch

    return torch.cuda.get_device_name(device)


if __name__ == "__main__":
    raise SystemExit(main())
