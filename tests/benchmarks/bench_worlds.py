"""How fast the worlds through gymnasium are against the plain gymnasium loop, in one run, the two interleaved.

    python tests/benchmarks/bench_worlds.py --gl egl

An episode is a reset and 100 control steps of random actions. A policy that reads the camera looks before the first
step and then every 10 steps. The plain loop is LeRobot's environment stepped as lerobot-eval does: it renders at
every step, whoever looks. What moves is checked to be the same in both, to the bit, before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2])]

STEPS, REPLAN = 100, 10
TARGETS = {"metaworld, camera, replan 10": 4.0, "metaworld, no camera": 20.0}
"""Ratios to the plain loop to reach with software GL."""


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cpu() -> str:
    """What the machine's CPU calls itself, with the number of cores that may be used."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def our_episode(sim: Any, actions: np.ndarray, look: bool) -> None:
    """One episode of ours, for a policy that looks every `REPLAN` steps or never."""
    sim.reset(0, observe=look)
    for number, action in enumerate(actions, start=1):
        sim.step(action, observe=look and number % REPLAN == 0 and number < STEPS)


def plain_episode(environment: Any, actions: np.ndarray, seed: int) -> None:
    """One episode of the plain loop."""
    environment.reset(seed=seed)
    for action in actions:
        environment.step(action)


def measure(name: str, plain: Any, rounds: int) -> list[dict[str, Any]]:
    """Ratios of one world, medians over rounds."""
    from harness.spec import load_suite
    from harness.worlds import get_world
    from harness.worlds.base import sim_config

    suite = load_suite(name)
    world, protocol = get_world(suite.world), suite.protocol
    sims = {
        "camera, replan 10": world.make(
            suite.tasks[0].suite, 0, sim_config(protocol, world.interface.cameras, privileged=False)
        ),
        "no camera": world.make(suite.tasks[0].suite, 0, sim_config(protocol, (), privileged=False)),
    }
    space = sims["no camera"].action_space
    actions = space.spread(np.random.default_rng(0).uniform(-1, 1, (STEPS, space.dim)))
    plain_episode(plain, actions, protocol.placement_seed)
    expected = plain._env.data.qpos if suite.world == "metaworld" else np.array(plain.agent.position)
    for what, sim in sims.items():
        our_episode(sim, actions, what != "no camera")
        found = sim.qpos if suite.world == "metaworld" else sim.qpos[:2]
        if not (found == expected).all():
            raise SystemExit(f"{suite.world} does not move as the plain loop does; nothing is timed.")
    seconds: dict[str, list[float]] = {what: [] for what in ("plain", *sims)}
    for _ in range(rounds):
        seconds["plain"].append(timed(lambda: plain_episode(plain, actions, protocol.placement_seed)))
        for what, sim in sims.items():
            seconds[what].append(timed(lambda sim=sim, what=what: our_episode(sim, actions, what != "no camera")))
    middle = {what: statistics.median(values) for what, values in seconds.items()}
    return [
        {
            "what": f"{suite.world}, {what}",
            "plain_ms_a_step": round(1e3 * middle["plain"] / STEPS, 3),
            "ours_ms_a_step": round(1e3 * middle[what] / STEPS, 3),
            "ratio": round(middle["plain"] / middle[what], 2),
            "target": TARGETS.get(f"{suite.world}, {what}"),
        }
        for what in sims
    ]


def main() -> int:
    """Measure both worlds; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gl", choices=("egl", "osmesa"), default="egl")
    options = parser.parse_args()
    os.environ["MUJOCO_GL"] = options.gl
    from harness.worlds.gymnasium import from_lerobot

    task = "button-press-v3"
    pusht = {"observation_width": 96, "observation_height": 96}
    plain = {
        "metaworld:metaworld_easy": from_lerobot("metaworld", task=task, obs_type="pixels_agent_pos")[task][0],
        "pusht": from_lerobot("pusht", task="PushT-v0", obs_type="pixels_agent_pos", **pusht)["pusht"][0],
    }
    rows = [row for name, environment in plain.items() for row in measure(name, environment, options.rounds)]
    print(cpu())
    for row in rows:
        print(json.dumps(row))
    return int(any(row["target"] is not None and row["ratio"] < row["target"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
