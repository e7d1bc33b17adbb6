"""What placing fixtures as an evaluator does costs of a reset: `python tests/benchmarks/bench_placements.py`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from harness.sim import LiberoSim
from harness.spec import Protocol
from harness.worlds.base import sim_config

TASKS = (("libero_spatial", 0), ("libero_object", 0), ("libero_goal", 7), ("libero_10", 9))
RESETS = 20


def cpu_ms(call: Callable[[int], object]) -> float:
    """Median CPU time of a call over `RESETS` episodes, milliseconds."""
    times = []
    for episode in range(RESETS):
        began = time.process_time()
        call(episode)
        times.append((time.process_time() - began) * 1e3)
    return statistics.median(times)


def main() -> None:
    """Print one line per task and preset."""
    for suite, task_id in TASKS:
        for preset in ("lerobot-seed0", "lerobot", "openpi"):
            sim = LiberoSim(suite, task_id, config=sim_config(Protocol.model_validate(preset), (), privileged=False))
            whole = cpu_ms(lambda episode: sim.reset(episode, observe=False))  # noqa: B023
            fixed = preset == "lerobot-seed0"
            place = cpu_ms(lambda episode: sim._placed.restore() if fixed else sim._placements.place(episode))  # noqa: B023
            print(f"{suite} {task_id} {preset}: placing {place:.2f} ms of {whole:.0f} ms")
            sim.close()


if __name__ == "__main__":
    main()
