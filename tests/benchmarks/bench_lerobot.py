"""What the harness adds to LeRobot's own inference, and what batching gives: one policy, interleaved, in one process.

    python tests/benchmarks/bench_lerobot.py 'lerobot:pi05?weights=random&dtype=bfloat16&empty_cameras=1' --nfe 1 10

Weights are random, observations are noise of LIBERO's shapes; on a CPU, take a small policy such as `lerobot:act`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from harness.policies.lerobot.policy import LeRobotPolicy
from harness.policies.registry import make_policy
from harness.schedule.keys import decision_noise, episode_key
from harness.spec.observation import CAMERAS, Observation
from harness.spec.policy import parse_policy


def observations(count: int) -> list[Observation]:
    """Observations of LIBERO's shapes, each of an episode of its own."""
    random = np.random.default_rng(0)
    return [
        Observation(
            instruction="pick up the black bowl between the plate and the ramekin and place it on the plate",
            state=random.uniform(-0.5, 0.5, 8).astype(np.float32),
            images={camera: random.integers(0, 256, (256, 256, 3), dtype=np.uint8) for camera in CAMERAS},
            episode_key=episode_key("0" * 64, "libero_spatial", 0, n, 0),
        )
        for n in range(count)
    ]


def noise(policy: LeRobotPolicy, seen: list[Observation]) -> Any:
    """Keyed noise of a batch."""
    shape = policy.info.noise_shape
    return None if shape is None else np.stack([decision_noise(o.episode_key, 0, shape) for o in seen])


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds of one call, the device's work included."""
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) * 1e3


def interleaved(runs: dict[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, float]:
    """Median milliseconds of each run, taken in turns so that all see the same machine."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 2):
        for name, run in runs.items():
            sample = timed(run, device)
            if turn >= 2:
                samples[name].append(sample)
    return {name: statistics.median(values) for name, values in samples.items()}


def overhead(policy: LeRobotPolicy, nfe: int | None, rounds: int) -> dict[str, float]:
    """`act` beside LeRobot's bare `predict_action_chunk` and beside LeRobot's own loop around it, batch 1."""
    from lerobot.envs import preprocess_observation
    from lerobot.processor.env_processor import LiberoProcessorStep
    from lerobot.processor.pipeline import PolicyProcessorPipeline

    seen = observations(1)
    keyed = noise(policy, seen)
    tensor = None if keyed is None else torch.from_numpy(keyed).to(policy.device)
    ready = policy.processors.pre(policy.reader.read(seen))
    turn_back = PolicyProcessorPipeline(steps=[LiberoProcessorStep()])
    raw = {
        "pixels": {
            key: np.stack([o.images[camera][::-1, ::-1] for o in seen])
            for camera, key in (("agentview", "image"), ("robot0_eye_in_hand", "image2"))
        },
        "agent_pos": np.stack([o.state for o in seen]),
    }
    arguments: dict[str, Any] = {} if tensor is None else {"noise": tensor}
    if nfe is not None and policy.family.nfe_route == "argument":
        arguments["num_steps"] = nfe

    def bare() -> None:
        with torch.inference_mode(), policy._numerics():
            policy.policy.predict_action_chunk(dict(ready), **arguments)

    def lerobot_loop() -> None:
        batch = turn_back(preprocess_observation(raw) | {"task": [o.instruction for o in seen]})
        with torch.inference_mode(), policy._numerics():
            chunk = policy.policy.predict_action_chunk(policy.processors.pre(batch), **arguments)
        policy.processors.post(chunk).numpy()

    runs = {"bare": bare, "lerobot_loop": lerobot_loop, "act": lambda: policy.act(seen, keyed, nfe=nfe)}
    medians = interleaved(runs, policy.device, rounds)
    return medians | {
        "act_over_bare": medians["act"] / medians["bare"],
        "act_over_lerobot_loop": medians["act"] / medians["lerobot_loop"],
    }


def components(policy: LeRobotPolicy, nfe: int | None, rounds: int) -> dict[str, float]:
    """Median milliseconds of each component, synchronised; a component that runs several times is summed per call."""
    sums: dict[str, float] = {}

    @contextmanager
    def span(name: str) -> Iterator[None]:
        if policy.device.type == "cuda":
            torch.cuda.synchronize(policy.device)
        began = time.perf_counter()
        yield
        if policy.device.type == "cuda":
            torch.cuda.synchronize(policy.device)
        sums[name] = sums.get(name, 0.0) + (time.perf_counter() - began) * 1e3

    seen = observations(1)
    keyed, before = noise(policy, seen), policy.span
    samples: dict[str, list[float]] = {}
    policy.span = span
    for _ in range(rounds):
        sums.clear()
        policy.act(seen, keyed, nfe=nfe)
        for name, value in sums.items():
            samples.setdefault(name, []).append(value)
    policy.span = before
    return {name: statistics.median(values) for name, values in samples.items()}


def batching(policy: LeRobotPolicy, nfe: int | None, sizes: list[int], rounds: int) -> dict[str, dict[str, float]]:
    """Latency of a batch and decisions a second by batch size."""
    runs = {}
    for size in sizes:
        seen = observations(size)
        keyed = noise(policy, seen)
        runs[str(size)] = lambda seen=seen, keyed=keyed: policy.act(seen, keyed, nfe=nfe)
    medians = interleaved(runs, policy.device, rounds)
    first = medians[str(sizes[0])] / sizes[0]
    return {
        size: {"batch_ms": ms, "decisions_s": int(size) / ms * 1e3, "ratio_to_unbatched": first / (ms / int(size))}
        for size, ms in medians.items()
    }


def main() -> None:
    """Print one JSON object a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="policy text, e.g. lerobot:pi05?weights=random")
    parser.add_argument("--nfe", type=int, nargs="*", default=[None], help="NFE values; none: the policy's own")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16, 32])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    began = time.perf_counter()
    policy = make_policy(parse_policy(args.policy))
    assert isinstance(policy, LeRobotPolicy)
    print(json.dumps({"load_s": time.perf_counter() - began, **policy.provenance}), flush=True)
    for nfe in args.nfe:
        print(json.dumps({"nfe": nfe, "overhead": overhead(policy, nfe, args.rounds)}), flush=True)
        print(json.dumps({"nfe": nfe, "components_ms": components(policy, nfe, args.rounds)}), flush=True)
        print(json.dumps({"nfe": nfe, "batching": batching(policy, nfe, args.batches, args.rounds)}), flush=True)


if __name__ == "__main__":
    main()
