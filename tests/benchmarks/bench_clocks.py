"""What virtual time costs: real episodes under each clock against the synchronous run, in one sitting.

    python tests/benchmarks/bench_clocks.py [--pairs 12] [--policy scripted]

Each decision draws its delay from a ledger's worth of samples that are all 0 ms, so that an episode takes the same
steps under every clock, bit for bit, and differs in the clock's work alone. Clocks take turns, in an order that turns
too; CPU time of the process, median of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

from harness.clocks import VIRTUAL, DelaySamples, DelaySource, Timing
from harness.latency.node import cpu_model
from harness.policies.registry import make_policy
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.sim.libero import LiberoSim
from harness.spec import parse_policy
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import sim_config

SOURCE = DelaySource("nothing", any_variant=DelaySamples((np.zeros(1000), np.zeros(1000))))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="turns of the clocks (default 12)")
    parser.add_argument("--policy", default="scripted", help="policy; the cheapest shows the most (default scripted)")
    options = parser.parse_args()
    policy = make_policy(parse_policy(options.policy))
    protocol = Protocol.model_validate("lerobot")
    config = sim_config(protocol, policy.info.cameras, privileged=policy.info.privileged)
    sim = LiberoSim("libero_spatial", 0, config=config)
    alarm, clock = Alarm(), WallTime()
    decider = LocalDecider(policy, alarm, clock)
    spent: dict[str, list[float]] = {name: [] for name in VIRTUAL}
    for turn in range(-1, options.pairs):
        state = max(turn, 0)
        key = episode_key("0" * 64, "libero_spatial", 0, state, 0)
        unit = EpisodeUnit(policy.info.policy_id, None, "libero_spatial", 0, state, 0, key, "0" * 64)
        trajectories = set()
        for i in range(len(VIRTUAL)):
            name = VIRTUAL[(turn + i) % len(VIRTUAL)]
            timing = Timing() if name == "synchronous" else Timing(name, SOURCE)
            began = time.process_time()
            result = run_episode(sim, decider, unit, protocol, policy.info, clock=clock, limits=Limits(), timing=timing)
            if turn >= 0:
                spent[name].append((time.process_time() - began) / result.steps)
            trajectories.add(result.trajectory_sha256)
        if len(trajectories) != 1 or None in trajectories:
            raise SystemExit(f"init state {state} was not the same under all clocks: {result.error_message}")
    print(f"{cpu_model()}; {options.policy}, libero_spatial task 0, {options.pairs} turns, ms of CPU a control step")
    print(f"{'clock':<14}{'median':>8}{'to synchronous':>16}{'least':>8}{'most':>8}")
    for name, own in spent.items():
        ratios = [a / b for a, b in zip(own, spent["synchronous"], strict=True)]
        line = (1e3 * statistics.median(own), statistics.median(ratios), min(ratios), max(ratios))
        print(f"{name:<14}{line[0]:>8.2f}{line[1]:>16.3f}{line[2]:>8.3f}{line[3]:>8.3f}")


if __name__ == "__main__":
    main()
