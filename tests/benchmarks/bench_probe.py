"""Overhead of the probe: on a decision, and on the whole command.

`python tests/benchmarks/bench_probe.py`: end-to-end medians of `probe` against a bare timing loop of the same `act`.
Probe and loop alternate round by round in one process, so that a noisy machine slows both; the ratio is the median over
rounds of the rounds' ratios of medians. At most 1.02 is asked.

`python tests/benchmarks/bench_probe.py --command`: wall time of `harness probe --policy flow --nfe 1,10 --min-seconds
3`, process start to report, over the time in which it measured (first to last sample of each launch, end-to-end and
component passes). At most 2 is asked. `--tree DIR` measures another tree of the harness in the same sitting.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch

import harness
from harness.latency import Budget, Telemetry, find_source, probe, synthetic_observations
from harness.latency.node import cpu_model
from harness.policies.flow import make
from harness.policies.flow.policy import FlowPolicy
from harness.spec.observation import Observation
from harness.spec.policy import parse_policy
from harness.time_source import WallTime

LIMIT = 1.02
COMMAND_LIMIT = 2.0


def bare_ms(policy: FlowPolicy, observations: list[Observation], nfe: int, samples: int) -> list[float]:
    """What a plain script would do: the clock around `act`, and nothing else."""
    noise = np.random.default_rng(0).standard_normal((1, 10, 7)).astype(np.float32)
    durations = []
    for n in range(samples):
        batch = [observations[n % len(observations)]]
        start = time.perf_counter()
        policy.act(batch, noise, nfe=nfe)
        if policy.device.type == "cuda":
            torch.cuda.synchronize(policy.device)
        durations.append((time.perf_counter() - start) * 1e3)
    return durations


def measured_s(ledger: str) -> tuple[float, int]:
    """Seconds between the first and the last sample of each launch of each configuration, and how many there are."""
    rows = harness.read(ledger).latency
    rows["ended_at"] = rows["started_at"] + pd.to_timedelta(rows["latency_ms"], unit="ms")
    launches = rows.groupby(["policy_id", "nfe", "batch_size", "launch"])
    spans = launches["ended_at"].max() - launches["started_at"].min()
    return float(spans.dt.total_seconds().sum()), len(spans)


def command(trees: list[str], launches: int) -> int:
    """Time the whole command in each tree, in turn."""
    ratio = 0.0
    for tree in trees:
        with tempfile.TemporaryDirectory() as out:
            asked = [
                "--policy",
                "flow",
                "--nfe",
                "1,10",
                "--min-seconds",
                "3",
                "--launches",
                str(launches),
                "--out",
                out,
            ]
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", "from harness.cli import main; main()", "probe", *asked, "--out", out],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd=tree,
                env={**os.environ, "PYTHONPATH": tree},
            )
            wall_s = time.perf_counter() - began
            spent_s, n = measured_s(out)
        ratio = wall_s / spent_s
        print(
            f"{tree}: {wall_s:.1f} s for {n} launches that measured for {spent_s:.1f} s: {ratio:.2f} times "
            f"(limit {COMMAND_LIMIT}), {(wall_s - spent_s) / n:.2f} s beside measuring a launch; {cpu_model()}"
        )
    return 0 if ratio <= COMMAND_LIMIT else 1


def main() -> int:
    """Print the ratio; 1 when it is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--nfe", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; more than 1 measures the neighbours too")
    parser.add_argument("--command", action="store_true", help="time the whole command")
    parser.add_argument("--tree", action="append", help="with --command: another tree first; repeat for several")
    parser.add_argument("--launches", type=int, default=5, help="with --command: launches of each configuration")
    options = parser.parse_args()
    if options.command:
        return command([*(options.tree or []), str(Path(harness.__file__).parent.parent)], options.launches)
    torch.set_num_threads(options.threads)
    policy = make(parse_policy(f"flow?device={options.device}"))
    observations = synthetic_observations(4)
    budget = Budget(min_seconds=0, min_samples=options.samples, warmup_seconds=0)
    ratios, sums = [], []
    bare_ms(policy, observations, options.nfe, 10)
    with Telemetry(find_source(str(policy.device))) as telemetry:
        for number in range(options.rounds):
            order = [True, False] if number % 2 else [False, True]
            medians: dict[bool, float] = {}
            for probed in order:
                if probed:
                    result = probe(
                        policy,
                        observations=observations,
                        clock=WallTime(),
                        nfes=(options.nfe,),
                        budget=budget,
                        telemetry=telemetry,
                    ).configurations[0]
                    medians[probed] = median(result.samples_ms())
                    sums.append(result.components_to_e2e or 0.0)
                else:
                    medians[probed] = median(bare_ms(policy, observations, options.nfe, options.samples))
            ratios.append(medians[True] / medians[False])
    ratio = median(ratios)
    print(f"flow at NFE {options.nfe} on {policy.device}, {options.rounds} rounds of {options.samples} samples")
    print(f"probe e2e / bare loop: {ratio:.4f} (rounds {min(ratios):.4f} to {max(ratios):.4f}; limit {LIMIT})")
    print(f"sum of components / e2e: {median(sums):.4f}")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
