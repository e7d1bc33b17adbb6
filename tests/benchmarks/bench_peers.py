"""The same work by other evaluators, in one sitting.

    python tests/benchmarks/bench_peers.py [--only lerobot,vla-eval]

(a) lerobot: the same tasks and init states of libero_spatial with the shipped `flow` at NFE 10, by the real
    `lerobot-eval` (as a user types it: `eval.batch_size` is chosen by LeRobot) and by `harness run`. Whole commands,
    process start to exit, in turns.
(b) vla-eval: vla-evaluation-harness's own LIBERO environment, both cameras, without any policy: `--processes`
    processes step it with zero actions in episodes of 100 steps, resets included, imports and construction not. Against
    it control steps/s of `harness run` with `scripted` and with `flow`, from the first lease to the last row, opening
    of tasks, frames and inference included. Needs `pip install vla-eval==0.8.0`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

import harness
from harness.cores import usable_cores
from harness.latency.node import cpu_model

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "lerobot_policy_vla_flow"
SUITE = """
name: peers
description: The same episodes as another evaluator's.
protocol: lerobot
tasks:
  - {{suite: libero_spatial, tasks: {tasks}, init_states: {states}}}
policies: [{policy}]
"""
STEPPING = """
import asyncio, sys, time
from harness.sim.package import prepare
prepare()
from vla_eval.benchmarks.libero.benchmark import LIBEROBenchmark
task_id, episodes, steps = map(int, sys.argv[1:])
world = LIBEROBenchmark("libero_spatial", send_wrist_image=True, send_state=True)
task = world.get_tasks()[task_id]

async def play(episode, steps):
    await world.start_episode({**task, "episode_idx": episode})
    await world.get_observation()
    for _ in range(steps):
        await world.apply_action({"actions": [0.0] * 6 + [-1.0]})
        await world.get_observation()

async def main():
    await play(0, 1)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    for episode in range(episodes):
        await play(episode, steps)
    print(time.perf_counter() - began, flush=True)

asyncio.run(main())
"""
STEPS = 100
LEROBOT_EVAL = "import lerobot_policy_vla_flow; from lerobot.scripts.lerobot_eval import main; main()"
"""`lerobot-eval`, with our plugin imported rather than installed."""


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="lerobot,vla-eval", help="which of lerobot, vla-eval")
    parser.add_argument("--tasks", type=int, default=2, help="tasks of libero_spatial")
    parser.add_argument("--states", type=int, default=4, help="init states of each")
    parser.add_argument("--rounds", type=int, default=1, help="turns of the two evaluators")
    parser.add_argument("--processes", type=int, default=usable_cores(), help="vla-eval: environments at once")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    figures: dict[str, Any] = {"cpu": cpu_model(), "cores": usable_cores(), "load_before": psutil.getloadavg()[0]}
    print(f"{figures['cpu']}, {figures['cores']} cores, load {figures['load_before']:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        if "lerobot" in options.only.split(","):
            figures["lerobot"] = bench_lerobot(Path(scratch), options.tasks, options.states, options.rounds)
        if "vla-eval" in options.only.split(","):
            figures["vla-eval"] = bench_vla_eval(Path(scratch), options.tasks, options.states, options.processes)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def bench_lerobot(out: Path, tasks: int, states: int, rounds: int) -> dict[str, Any]:
    """Whole commands over the same episodes, in turns; medians and their ratio."""
    policy, files = out / "policy", out / "libero"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(PLUGIN), os.environ.get("PYTHONPATH", ""))),
        "LIBERO_CONFIG_PATH": str(files),
    }
    for made in (
        ["lerobot_policy_vla_flow", str(ROOT / "checkpoints/flow/teacher"), str(policy)],
        ["lerobot_policy_vla_flow.libero_files", str(files)],
    ):
        subprocess.run([sys.executable, "-m", *made], check=True, env=environment)
    theirs = [
        *(sys.executable, "-c", LEROBOT_EVAL),
        f"--policy.path={policy}",
        "--env.type=libero",
        "--env.task=libero_spatial",
        f"--env.task_ids={list(range(tasks))}",
        "--env.observation_height=256",
        "--env.observation_width=256",
        f"--eval.n_episodes={states}",
        "--policy.device=cpu",
    ]
    suite = write_suite(out, "flow", tasks, states)
    seconds: dict[str, list[float]] = {"lerobot-eval": [], "harness run": []}
    solved: dict[str, int] = {}
    for turn in range(rounds):
        there, here = out / f"lerobot-{turn}", out / f"harness-{turn}"
        for name, command, variables in (
            ("lerobot-eval", [*theirs, f"--output_dir={there}"], environment),
            ("harness run", [bin_file("harness"), "run", str(suite), "--out", str(here)], dict(os.environ)),
        ):
            began = time.perf_counter()
            with (out / "log.txt").open("w") as log:
                ended = subprocess.run(command, env=variables, stdout=log, stderr=subprocess.STDOUT, check=False)
            if ended.returncode:
                raise SystemExit(f"{name} failed:\n{(out / 'log.txt').read_text()[-3000:]}")
            seconds[name].append(time.perf_counter() - began)
        played = json.loads((there / "eval_info.json").read_text())["per_task"]
        solved["lerobot-eval"] = sum(sum(task["metrics"]["successes"]) for task in played)
        n_theirs = sum(len(task["metrics"]["successes"]) for task in played)
        episodes = harness.read(here).episodes
        solved["harness run"] = int(episodes["success"].sum())
        if not n_theirs == len(episodes) == tasks * states:
            raise SystemExit(f"{n_theirs} and {len(episodes)} episodes, not {tasks * states} each")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["lerobot-eval"] / medians["harness run"]
    print(f"{tasks * states} episodes of libero_spatial with flow at NFE 10, whole commands:")
    for name, median in medians.items():
        told = ", ".join(f"{value:.1f}" for value in seconds[name])
        print(f"  {name:<14}{median:>8.1f} s ({told}), {solved[name]} solved")
    print(f"  ratio         {ratio:>8.2f}")
    return {"seconds": seconds, "solved": solved, "episodes": tasks * states, "ratio": ratio}


def bench_vla_eval(out: Path, tasks: int, states: int, processes: int) -> dict[str, Any]:
    """Control steps/s of their environment alone, and of whole runs here."""
    if importlib.util.find_spec("vla_eval") is None:
        raise SystemExit("vla_eval is not installed: pip install vla-eval==0.8.0, or give --only lerobot")
    theirs = step_vla_eval(out, tasks, states, processes)
    print(f"vla-eval's environment, no policy, {processes} processes: {theirs:.1f} control steps/s")
    figures: dict[str, Any] = {"processes": processes, "vla_eval_steps_per_s": theirs}
    for policy in ("scripted", "flow"):
        result = harness.run(str(write_suite(out, policy, tasks, states)), out=out / f"run-{policy}")
        steps = int(harness.read(result.out).episodes["steps"].sum())
        rate = steps / result.rollout_s
        print(f"harness run, {policy}: {rate:.1f} control steps/s, {rate / theirs:.1f} times")
        figures |= {f"{policy}_steps_per_s": rate, f"{policy}_ratio": rate / theirs}
    return figures


def step_vla_eval(out: Path, tasks: int, episodes: int, processes: int) -> float:
    """Steps/s of several of their environments at once, from a common start to the last one's end."""
    environment = os.environ | {"MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"), "OMP_NUM_THREADS": "1"}
    log = (out / "vla-eval.txt").open("w")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", STEPPING, str(i % tasks), str(episodes), str(STEPS)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        for i in range(processes)
    ]
    try:
        for child in children:
            wait_for(child, "ready", out)
        began = time.perf_counter()
        for child in children:
            print(file=child.stdin, flush=True)
        for child in children:
            wait_for(child, "", out)
        return processes * episodes * STEPS / (time.perf_counter() - began)
    finally:
        log.close()
        for child in children:
            child.kill()


def wait_for(child: subprocess.Popen[str], word: str, out: Path) -> None:
    """Read a child's lines until one begins with `word`; LIBERO prints some of its own."""
    assert child.stdout is not None
    for line in child.stdout:
        if (word and line.startswith(word)) or (not word and line[0].isdigit()):
            return
    raise SystemExit(f"vla-eval's environment ended early:\n{(out / 'vla-eval.txt').read_text()[-3000:]}")


def bin_file(name: str) -> str:
    """A command of this environment."""
    return str(Path(sys.executable).with_name(name))


def write_suite(out: Path, policy: str, tasks: int, states: int) -> Path:
    """A suite of these episodes."""
    path = out / f"peers-{policy}.yaml"
    path.write_text(SUITE.format(tasks=list(range(tasks)), states=states, policy=policy))
    return path


if __name__ == "__main__":
    main()
