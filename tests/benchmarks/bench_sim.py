"""How fast the simulator is against plain robosuite, in one run, the two interleaved.

    python tests/benchmarks/bench_sim.py                          # ratios, and the step without a frame
    python tests/benchmarks/bench_sim.py --processes 16 --gl egl  # and the throughput of the host

An episode is a reset, 10 settle steps and 130 control steps of random actions. A policy that reads both cameras looks
before the first step and then every 10 steps; its frames are checked against plain robosuite's before and after. Plain
robosuite renders both cameras at every step, as the evaluators of openpi and LeRobot have it do; its episode is
extrapolated from fewer steps, which the output says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "sim")]

SUITE, TASK = "libero_spatial", 0
EPISODE_STEPS, SETTLE_STEPS, REPLAN = 130, 10, 10
CAMERAS = ("agentview", "robot0_eye_in_hand")
SOFTWARE_TARGETS = {"both cameras, replan 10": 7.0, "no camera": 20.0}
"""Ratios to plain robosuite to reach with software GL on 2 cores; on a GPU, its frames are nearly free."""
STEP_TARGET_MS = 9.0
HOST_TARGET = 900.0
"""Control steps a second, both cameras every 10 steps, of a host with a GPU and 16 vCPUs (plain robosuite: 269)."""


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def random_actions(seed: int) -> NDArray[np.float32]:
    """Actions of one episode."""
    return np.random.default_rng(seed).uniform(-1, 1, (EPISODE_STEPS, 7)).astype(np.float32)


def our_episode(sim: Any, init_state_id: int, look: bool) -> None:
    """One episode of ours, for a policy that looks every `REPLAN` steps or never."""
    sim.reset(init_state_id, observe=look)
    for number, action in enumerate(random_actions(init_state_id), start=1):
        sim.step(action, observe=look and number % REPLAN == 0 and number < EPISODE_STEPS)


def bare_substeps(sim: Any, control_steps: int) -> list[float]:
    """Seconds of 25 bare `mj_step`, the floor of a control step."""
    from harness.sim.engine import mujoco

    model, data = sim._env.sim.model._model, sim._env.sim.data._data
    return [timed(lambda: [mujoco.mj_step(model, data) for _ in range(25)]) for _ in range(control_steps)]


def serve_plain(pipe: Any) -> None:
    """Plain robosuite in a process of its own: it takes a process's GL context for its own, and would spoil ours.

    Answers ("frames", init state) with the frames after settling and one replan interval, and ("round", init state,
    steps) with the seconds of a reset and of each step. It idles while ours runs.
    """
    from plain import PlainLibero, images

    plain = PlainLibero(SUITE, TASK, 256)
    while (request := pipe.recv()) is not None:
        what, init, *steps = request
        if what == "frames":
            observation = plain.reset(init, settle_steps=SETTLE_STEPS)
            for action in random_actions(init)[:REPLAN]:
                observation, _ = plain.step(action)
            pipe.send(images(observation))
        else:
            reset = timed(lambda: plain.reset(init, settle_steps=0))  # noqa: B023
            actions = random_actions(init)[: steps[0]]
            pipe.send((reset, [timed(lambda a=action: plain.step(a)) for action in actions]))
    os._exit(0)  # robosuite frees its context after the GL library is gone, with a traceback


def require_same_frames(sim: Any, expected: dict[str, NDArray[np.uint8]], init_state_id: int) -> None:
    """Check that what is timed is the real work: the frames of a decision are plain robosuite's, to the bit."""
    sim.reset(init_state_id, observe=False)
    for number, action in enumerate(random_actions(init_state_id)[:REPLAN], start=1):
        result = sim.step(action, observe=number == REPLAN)
    for camera, frame in expected.items():
        np.testing.assert_array_equal(result.observation.images[camera], frame)


def compare(rounds: int, plain_steps: int) -> dict[str, Any]:
    """Interleave plain robosuite and ours, round by round."""
    from harness.sim import LiberoSim, SimConfig

    context = multiprocessing.get_context("spawn")
    plain, theirs = context.Pipe()
    process = context.Process(target=serve_plain, args=(theirs,))
    process.start()
    plain.send(("frames", 1))
    frames = plain.recv()
    looking, blind = (LiberoSim(SUITE, TASK, config=SimConfig(cameras=cameras)) for cameras in (CAMERAS, ()))
    seconds: dict[str, list[float]] = {name: [] for name in ("plain_reset", "plain_step", "looking", "blind", "step")}
    floor: list[float] = []
    require_same_frames(looking, frames, 1)  # also starts the GL context, which every process does once
    for number in range(rounds):
        plain.send(("round", number, plain_steps))
        reset, steps = plain.recv()
        seconds["plain_reset"].append(reset)
        seconds["plain_step"] += steps
        seconds["looking"].append(timed(lambda n=number: our_episode(looking, n, look=True)))
        seconds["blind"].append(timed(lambda n=number: our_episode(blind, n, look=False)))
        blind.reset(number, observe=False)
        seconds["step"] += [timed(lambda a=action: blind.step(a)) for action in random_actions(number)]
        floor += bare_substeps(blind, 40)
    plain.send(None)
    require_same_frames(looking, frames, 1)
    resets = [timed(lambda n=n: blind.reset(n, observe=False)) for n in range(20)]
    looking.close()
    return summary(seconds, floor, resets)


def summary(seconds: dict[str, list[float]], floor: list[float], resets: list[float]) -> dict[str, Any]:
    """Medians, and what follows from them."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    plain_episode = median["plain_reset"] + (SETTLE_STEPS + EPISODE_STEPS) * median["plain_step"]
    names = dict(zip(SOFTWARE_TARGETS, ("looking", "blind"), strict=True))
    return {
        "plain": {
            "reset_ms": median["plain_reset"] * 1e3,
            "step_ms": median["plain_step"] * 1e3,
            "episodes_per_hour": 3600 / plain_episode,
            "extrapolated_from_steps": len(seconds["plain_step"]),
        },
        "ours": {
            "reset_and_settle_ms": statistics.median(resets) * 1e3,
            "step_without_frame_ms": median["step"] * 1e3,
            "step_without_frame_p10_ms": float(np.percentile(seconds["step"], 10)) * 1e3,
            "bare_25_mj_step_ms": statistics.median(floor) * 1e3,
            "episodes_per_hour": {name: 3600 / median[key] for name, key in names.items()},
        },
        "ratio": {name: plain_episode / median[key] for name, key in names.items()},
    }


def host_worker(index: int, seconds: float, look: bool, barrier: Any, results: Any) -> None:
    """One process of the host: run episodes for a time, and report its control steps (settle steps included)."""
    from harness.sim import LiberoSim, SimConfig

    sim = LiberoSim(SUITE, index % 10, config=SimConfig(cameras=CAMERAS if look else ()))
    sim.reset(0, observe=look)
    barrier.wait()
    steps, init, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        our_episode(sim, init % 50, look)
        steps, init = steps + SETTLE_STEPS + EPISODE_STEPS, init + 1
    results.put((steps, time.perf_counter() - began))
    sim.close()


def host_throughput(processes: int, seconds: float, look: bool) -> float:
    """Control steps a second over `processes` processes, each on its own task."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=host_worker, args=(index, seconds, look, barrier, results)) for index in range(processes)
    ]
    for worker in workers:
        worker.start()
    rates = [steps / elapsed for steps, elapsed in (results.get() for _ in workers)]
    for worker in workers:
        worker.join()
    return sum(rates)


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{SUITE} task {TASK}, two 256×256 cameras, {result['renderer']} ({result['device']}), load {result['load']}")
    if "plain" in result:
        plain, ours = result["plain"], result["ours"]
        print(f"\n{'':28}{'plain':>12}{'ours':>12}")
        print(f"{'reset [+ settle], ms':28}{plain['reset_ms']:12.0f}{ours['reset_and_settle_ms']:12.1f}")
        print(f"{'control step, no frame, ms':28}{'':>12}{ours['step_without_frame_ms']:12.2f}", end="")
        print(f"   (p10 {ours['step_without_frame_p10_ms']:.2f}; target ≤ {STEP_TARGET_MS:.0f}", end="")
        print(f"; 25 bare mj_step {ours['bare_25_mj_step_ms']:.2f})")
        print(f"{'control step, both frames, ms':28}{plain['step_ms']:11.1f}")
        print(f"\nepisodes per hour{'':11}{'plain':>12}{'ours':>12}{'ratio':>12}")
        software = result["renderer"] != "egl-gpu"
        for name, target in SOFTWARE_TARGETS.items():
            rate, ratio = ours["episodes_per_hour"][name], result["ratio"][name]
            goal = f"   (target ≥ {target:.0f}×)" if software else ""
            print(f"{name:28}{plain['episodes_per_hour']:12.1f}{rate:12.1f}{ratio:11.1f}×{goal}")
        print(f"Plain episodes are extrapolated from {plain['extrapolated_from_steps']} measured steps.")
    for name, rate in result.get("host_steps_per_s", {}).items():
        goal = f"   (target ≥ {HOST_TARGET:.0f} with a GPU and 16 vCPUs)" if name.startswith("both") else ""
        print(f"host, {result['processes']} processes, {name}: {rate:.0f} control steps/s{goal}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default 3)")
    parser.add_argument("--plain-steps", type=int, default=20, help="plain steps a round (default 20)")
    parser.add_argument("--processes", type=int, default=0, help="also measure the host with so many processes")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each host measurement runs (default 30)")
    parser.add_argument("--only-host", action="store_true", help="skip the comparison with plain robosuite")
    parser.add_argument("--gl", help="egl, egl-gpu, egl-software or osmesa (default: the best that renders)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from harness.sim.gl import apply_backend, choose_backend

    backend = choose_backend(options.gl, env=os.environ)
    apply_backend(backend)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    result: dict[str, Any] = {"renderer": backend.renderer, "device": backend.device, "load": load}
    if not options.only_host:
        result |= compare(options.rounds, options.plain_steps)
    if options.processes:
        result["processes"] = options.processes
        result["host_steps_per_s"] = {
            name: host_throughput(options.processes, options.seconds, look)
            for name, look in (("both cameras every 10 steps", True), ("no camera", False))
        }
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
