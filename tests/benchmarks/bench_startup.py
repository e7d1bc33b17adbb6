"""From a command to its first episode, and to its report.

`python tests/benchmarks/bench_startup.py [--only report] [--policy scripted] [--runs 2]`

Three parts, each against its own base in the same sitting, with the CPU's name and the load beside it:

- opening a LIBERO task in a fresh process, built against kept on disk (wall and CPU seconds, resident memory);
- whole `harness run` commands of a small suite: process start → `runs.started_at` → first `episodes.started_at` →
  end. The first finds nothing kept on disk, the others what every later run finds;
- `harness report` of the shipped ledgers of 80 and 500 episodes, against importing pandas, pyarrow and scipy.special:
  the least of five, CPU and wall seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import harness
from harness.latency.node import cpu_model

OPEN = """
import json, resource, sys, time
from harness.sim.package import prepare
prepare()
import harness.sim.osc
from harness.sim import LiberoSim, SimConfig
began, cpu = time.perf_counter(), time.process_time()
cameras = ("agentview",) if sys.argv[2] == "frame" else ()
sim = LiberoSim("libero_spatial", int(sys.argv[1]), config=SimConfig(cameras=cameras))
sim.reset(0, observe=sys.argv[2] == "frame")
print(json.dumps({"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu,
                  "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}))
"""
EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
SUITE = """
name: startup
description: Four episodes.
protocol: lerobot
tasks:
  - {suite: libero_spatial, tasks: [0, 1], init_states: 2}
policies: [scripted]
"""


def open_task(task: int, look: str, cache: str) -> dict[str, float]:
    """Open a task in a fresh process and reset it, with or without a frame."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(task), look],
        env={**os.environ, "VLA_HARNESS_CACHE": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def command(policy: str, cache: str, folder: Path) -> dict[str, float]:
    """One `harness run`: seconds from the start of its process, and CPU seconds of it and of all that it started."""
    suite = folder / "startup.yaml"
    suite.write_text(SUITE)
    out = folder / f"out-{time.monotonic_ns()}"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), datetime.now(UTC)
    subprocess.run(
        ["harness", "run", str(suite), "--policy", policy, "--out", str(out)],
        env={**os.environ, "VLA_HARNESS_CACHE": cache},
        capture_output=True,
        check=True,
    )
    ended, after = datetime.now(UTC), resource.getrusage(resource.RUSAGE_CHILDREN)
    ledger = harness.read(out)
    first = ledger.episodes["started_at"].min()
    last = (ledger.episodes["started_at"] + ledger.episodes["wall_s"].map(lambda s: timedelta_of(s))).max()
    return {
        "to run": (ledger.runs["started_at"].min() - began).total_seconds(),
        "to first episode": (first - began).total_seconds(),
        "from last episode": (ended - last).total_seconds(),
        "all": (ended - began).total_seconds(),
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def least(argv: list[str], times: int = 5) -> tuple[float, float]:
    """Least CPU and wall seconds of a command."""
    spent = []
    for _ in range(times):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall))
    return min(cpu for cpu, _ in spent), min(wall for _, wall in spent)


def reports(folder: Path) -> None:
    """Print what reports take."""
    base, _ = least([sys.executable, "-c", "import pandas, pyarrow.parquet, scipy.special"])
    page = ["--html", str(folder / "report.html")]
    for name, argv in (
        ("80 episodes, 753 timed decisions", [str(EXAMPLES / "demo")]),
        ("80 episodes, as HTML too", [str(EXAMPLES / "demo"), *page]),
        ("500 episodes", [str(EXAMPLES / "scripted" / "libero_spatial")]),
        ("500 episodes, as HTML too", [str(EXAMPLES / "scripted" / "libero_spatial"), *page]),
    ):
        cpu, wall = least(["harness", "report", *argv])
        ratio = f"{cpu / base:.1f} × its imports ({base:.2f} s)"
        print(f"harness report ({name}): CPU {cpu:.2f} s, wall {wall:.2f} s; {ratio}")


def timedelta_of(seconds: float) -> object:
    """Seconds as pandas adds them to times."""
    import pandas as pd

    return pd.Timedelta(seconds=seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="scripted")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only", choices=("open", "run", "report"))
    options = parser.parse_args()
    print(f"{cpu_model()}, load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as folder:
        cache = str(Path(folder) / "cache")
        if options.only in (None, "report"):
            reports(Path(folder))
        if options.only in (None, "open"):
            for look in ("blind", "frame"):
                built, kept = open_task(0, look, ""), [open_task(0, look, cache) for _ in range(2)][-1]
                shown = ", ".join(f"{name} {built[name]:.2f} → {kept[name]:.2f}" for name in built)
                print(f"open a task ({look}): {shown}; CPU ratio {built['cpu_s'] / kept['cpu_s']:.1f}")
        if options.only in (None, "run"):
            for number in range(options.runs):
                times = command(options.policy, cache, Path(folder))
                state = "again" if number else "first"
                print(f"harness run ({state}): " + ", ".join(f"{name} {value:.1f} s" for name, value in times.items()))


if __name__ == "__main__":
    main()
