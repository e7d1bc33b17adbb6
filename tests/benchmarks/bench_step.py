"""Where a control step without a frame goes, on the states of real episodes, with 1 and more processes at once.

    python tests/benchmarks/bench_step.py [--processes 1,2] [--steps 300]

Before every control step its state, the solver's warm start included, is copied twice, so that three things start from
the same one:

- bare: 25 `mj_step`, what any simulator of this model must do;
- same bits: the calls to MuJoCo that robosuite's bits demand and nothing else: in each of the 25 substeps its
  controller solves the constraints three times, each solve begun from the one before, where `mj_step` solves once;
- ours: the control step, which adds the controller's torques and Python.

The three are taken in turns, so that load and clock hit all alike. Medians; ratios are of medians of one run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from harness.cores import usable_cores
from harness.latency.node import cpu_model

SUITE, EPISODE_STEPS, SUBSTEPS = "libero_spatial", 100, 25
KINDS = ("bare", "same bits", "ours")


def main() -> None:
    """Measure with each number of processes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ",".join(map(str, sorted({1, usable_cores()})))
    parser.add_argument("--processes", default=default, help=f"numbers of processes at once (default {default})")
    parser.add_argument("--steps", type=int, default=300, help="control steps of each process (default 300)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    figures: dict[str, Any] = {"cpu": cpu_model(), "cores": usable_cores(), "load": os.getloadavg()[0], "steps": {}}
    print(f"{figures['cpu']}, {figures['cores']} cores, load {figures['load']:.1f}; ms a control step, medians")
    print(f"{'processes':>9}" + "".join(f"{kind:>12}" for kind in (*KINDS, "ours/bare", "floor/bare", "ours/floor")))
    for processes in map(int, options.processes.split(",")):
        bare, floor, ours = measured = measure(processes, options.steps)
        ratios = (ours / bare, floor / bare, ours / floor)
        print(f"{processes:>9}" + "".join(f"{value:>12.2f}" for value in (*measured, *ratios)))
        figures["steps"][processes] = dict(zip(KINDS, measured, strict=True))
    print("floor: same bits")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(processes: int, steps: int) -> tuple[float, ...]:
    """Median milliseconds of each kind, over the steps of `processes` processes that run at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [context.Process(target=take_steps, args=(index, steps, barrier, results)) for index in range(processes)]
    for worker in workers:
        worker.start()
    taken: list[dict[str, list[float]]] = []
    while len(taken) < processes:
        with suppress(queue.Empty):
            taken.append(results.get(timeout=1.0))
        if any(worker.exitcode for worker in workers):
            raise SystemExit("a process of the benchmark failed; its traceback stands above")
    for worker in workers:
        worker.join()
    return tuple(1e3 * statistics.median(value for own in taken for value in own[kind]) for kind in KINDS)


def take_steps(index: int, steps: int, barrier: Any, results: Any) -> None:
    """One process: episodes of random actions of its own task, every control step timed three ways."""
    from harness.sim import LiberoSim, SimConfig
    from harness.sim.engine import mujoco

    sim = LiberoSim(SUITE, index % 10, config=SimConfig(cameras=()))
    model, data = sim._env.sim.model._model, sim._env.sim.data._data
    copies = mujoco.MjData(model), mujoco.MjData(model)
    everything = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, everything))

    def bare(copy: Any) -> None:
        for _ in range(SUBSTEPS):
            mujoco.mj_step(model, copy)

    def same_bits(copy: Any) -> None:
        for _ in range(SUBSTEPS):
            mujoco.mj_step1(model, copy)
            mujoco.mj_fwdActuation(model, copy)
            mujoco.mj_fwdAcceleration(model, copy)
            mujoco.mj_fwdConstraint(model, copy)
            mujoco.mj_fwdConstraint(model, copy)
            mujoco.mj_step2(model, copy)

    random = np.random.default_rng(index)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    sim.reset(0, observe=False)
    barrier.wait()
    for number in range(steps):
        if number % EPISODE_STEPS == 0:
            sim.reset(number // EPISODE_STEPS, observe=False)
        action = random.uniform(-1, 1, 7).astype(np.float32)
        mujoco.mj_getState(model, data, state, everything)
        for copy in copies:
            mujoco.mj_setState(model, copy, state, everything)
        kinds: dict[str, Callable[[], Any]] = {
            "bare": lambda: bare(copies[0]),
            "same bits": lambda: same_bits(copies[1]),
            "ours": lambda a=action: sim.step(a, observe=False),
        }
        turn = number % len(KINDS)
        for kind in (*KINDS[turn:], *KINDS[:turn]):
            began = time.perf_counter()
            kinds[kind]()
            seconds[kind].append(time.perf_counter() - began)
    results.put(seconds)
    sim.close()


if __name__ == "__main__":
    main()
