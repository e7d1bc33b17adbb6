"""What Ray, ledger and scheduling cost, and how rollouts scale. Prints one table.

    python tests/benchmarks/bench_cluster.py [--only stub,overhead,scaling] [--json FILE]

(a) stub: episodes per second of the stub world through the whole path; target ≥ 500.
(b) overhead: share of the rollout workers' time, on libero_spatial with 2 workers, that is neither an episode nor the
    building of a simulator; target ≤ 2 %.
(c) scaling: episodes per hour of 2 workers against 1 with `scripted`, interleaved in this run; target ≥ 1.7.
(d) scale, only when named: the controller under many workers. Every worker is a thread that asks for work, waits as
    long as an episode would take and reports; leases, bookkeeping and rows on disk are real, Ray's transport is not in
    it. Episodes per second, a lease's waiting time, memory, parts, and what compaction and reading take.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

import harness
from harness.cluster.controller import Controller
from harness.cluster.ray_session import open_session
from harness.cluster.run import RunResult
from harness.latency.node import cpu_model
from harness.ledger.compact import compact_ledger
from harness.schedule.keys import episode_key
from harness.schedule.progress import Progress
from harness.schedule.result import DecisionLog, EpisodeResult
from harness.schedule.state import RunState
from harness.schedule.units import EpisodeUnit
from harness.spec import Suite
from harness.spec.observation import PolicyInfo
from harness.spec.resolve import parse
from harness.time_source import WallTime

Row = tuple[str, str, str]


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="stub,overhead,scaling", help="which of stub, overhead, scaling, scale")
    parser.add_argument("--trials", type=int, default=20, help="stub: trials of its 500 episodes")
    parser.add_argument("--states", type=int, default=5, help="overhead: init states of each of ten tasks")
    parser.add_argument("--rounds", type=int, default=2, help="scaling: alternations of 1 and 2 workers")
    parser.add_argument("--workers", type=int, default=1000, help="scale: workers")
    parser.add_argument("--episodes", type=int, default=100_000, help="scale: episodes")
    parser.add_argument("--episode-s", type=float, default=1.0, help="scale: what an episode takes, seconds")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    wanted = options.only.split(",")
    figures: dict[str, Any] = {"cores": psutil.cpu_count(), "load_before": psutil.getloadavg()[0]}
    figures["cpu"] = cpu_model()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        if "scale" in wanted:
            figures |= bench_scale(out, options.workers, options.episodes, options.episode_s)
        with open_session(None) if set(wanted) - {"scale"} else nullcontext():
            if "stub" in wanted:
                figures |= bench_stub(out, options.trials)
            if "overhead" in wanted:
                figures |= bench_overhead(out, options.states)
            if "scaling" in wanted:
                figures |= bench_scaling(out, options.rounds)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def bench_stub(out: Path, trials: int) -> dict[str, Any]:
    """Episodes per second of the stub world, with Ray up."""
    suite = make_suite("stub", tasks=[{"suite": "stub", "trials": trials}], protocol="stub", policies=["noop"])
    began = time.perf_counter()
    result = harness.run(suite, out=out / "stub", workers=2)
    wall_s = time.perf_counter() - began
    assert_complete(result)
    return {
        "stub_episodes": result.done,
        "stub_steady_per_s": result.done / result.rollout_s,
        "stub_wall_per_s": result.done / wall_s,
        "stub_wall_s": wall_s,
    }


def bench_overhead(out: Path, states: int) -> dict[str, Any]:
    """Share of two workers' time that goes to Ray, ledger and scheduling, and what other processes take of the CPUs."""
    suite = make_suite(
        "overhead",
        tasks=[{"suite": "libero_spatial", "init_states": states}],
        protocol="lerobot",
        policies=["scripted", "noop"],
    )
    meter = CpuMeter()
    result = harness.run(suite, out=out / "overhead", workers=2, on_progress=meter)
    assert_complete(result)
    episodes_s = float(harness.read(out / "overhead").episodes["wall_s"].sum())
    counted_s = result.worker_s - result.build_s - result.idle_s
    return {
        "overhead_episodes": result.done,
        "overhead_share": 1 - episodes_s / counted_s,
        "overhead_idle_share": result.idle_s / (result.worker_s - result.build_s),
        "overhead_build_s": result.build_s,
        "overhead_worker_s": result.worker_s,
        "overhead_other_cpu_share": meter.other_cpu_s / ((psutil.cpu_count() or 1) * meter.span_s),
    }


def bench_scaling(out: Path, rounds: int) -> dict[str, Any]:
    """Episodes per hour of 1 and of 2 workers, taken in turns."""
    suite = make_suite(
        "scaling",
        # Enough that the last seconds, when one worker is out of work, weigh what they weigh in a real suite.
        tasks=[{"suite": "libero_spatial", "tasks": [0, 1], "init_states": 40}],
        protocol="lerobot",
        policies=["scripted"],
    )
    rates: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(rounds):
        for workers in (1, 2):
            result = harness.run(suite, out=out / f"scaling-{turn}-{workers}", workers=workers)
            assert_complete(result)
            # Without building, which is paid once per worker and task; with the tail, when a worker is idle.
            rates[workers].append(3600 * workers * result.done / (result.worker_s - result.build_s))
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    return {"scaling_1_per_h": one, "scaling_2_per_h": two, "scaling_ratio": two / one, "scaling_all": rates}


class CpuMeter:
    """CPU time of everything under this process except rollout workers, while episodes come back."""

    def __init__(self) -> None:
        """Start when the first episode has come back."""
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def __call__(self, progress: Progress) -> None:
        """Read the meter."""
        if progress.done == 0 or progress.remaining == 0:
            return
        reading = (time.perf_counter(), _cpu_of_others())
        self._first = self._first or reading
        self._last = reading

    @property
    def span_s(self) -> float:
        """Seconds between the first and the last reading."""
        return self._last[0] - (self._first or self._last)[0] or float("nan")

    @property
    def other_cpu_s(self) -> float:
        """CPU seconds in that time."""
        return self._last[1] - (self._first or self._last)[1]


def bench_scale(out: Path, n_workers: int, n_episodes: int, episode_s: float) -> dict[str, Any]:
    """One controller and many workers, until every episode is in the ledger."""
    sha = "ab" * 32
    keys = ((task, state) for state in range(-(-n_episodes // 10)) for task in range(10))
    plan = [
        EpisodeUnit("noop", None, "stub", task, state, 0, episode_key(sha, "stub", task, state, 0), sha)
        for task, state in islice(keys, n_episodes)
    ]
    state = RunState(plan, max_attempts=3, lease_limit_s=600.0, n_workers=n_workers, started=datetime.now(UTC))
    ledger = out / "scale"
    ledger.mkdir(parents=True)
    controller = Controller(state, str(ledger), "scale", {"noop": PolicyInfo("noop")}, WallTime())
    waited: list[float] = []
    lock = threading.Lock()
    draw = random.Random(7)
    durations = [draw.uniform(0.5, 1.5) * episode_s for _ in range(n_episodes)]

    def work(name: str) -> None:
        own = []
        while True:
            asked = time.perf_counter()
            lease = controller.lease(name)
            own.append(time.perf_counter() - asked)
            if lease.stop:
                break
            if not lease.items:
                time.sleep(lease.wait_s)
                continue
            results = []
            for item in lease.items:
                wall_s = durations[item.unit.init_state_id]
                time.sleep(wall_s)
                log = DecisionLog([0.0] * 10, [1.0] * 10, [1] * 10, [0] * 10, [None] * 10, [None] * 10, [0.0] * 10)
                results.append(
                    EpisodeResult(item.unit, "success", datetime.now(UTC), item.attempt, wall_s=wall_s, decisions=log)
                )
            controller.report(name, lease.lease_id, results)
        with lock:
            waited.extend(own)

    process = psutil.Process()
    memory = [process.memory_info().rss]
    threads = [threading.Thread(target=work, args=(f"worker-{i}",), daemon=True) for i in range(n_workers)]
    began, marks = time.perf_counter(), []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(2.0)
        controller.snapshot()
        marks.append(time.perf_counter() - began)
        memory.append(process.memory_info().rss)
    wall_s = time.perf_counter() - began
    if not controller.snapshot().finished:
        raise SystemExit(f"the run did not finish: {controller.snapshot()}")
    parts = sum(1 for _ in ledger.rglob("*.parquet"))
    began = time.perf_counter()
    n_read = len(harness.read(ledger).episodes)
    read_s = time.perf_counter() - began
    began = time.perf_counter()
    compact_ledger(ledger, out / "scale-compact")
    compact_s = time.perf_counter() - began
    began = time.perf_counter()
    n_compact = len(harness.read(out / "scale-compact").episodes)
    if not n_read == n_compact == n_episodes:
        raise SystemExit(f"{n_episodes} episodes were reported, {n_read} read, {n_compact} after compaction")
    waited.sort()
    return {
        "scale_workers": n_workers,
        "scale_episodes": n_episodes,
        "scale_per_s": n_episodes / wall_s,
        "scale_offered_per_s": n_workers / episode_s,
        "scale_lease_p50_ms": 1e3 * waited[len(waited) // 2],
        "scale_lease_p99_ms": 1e3 * waited[int(len(waited) * 0.99)],
        "scale_memory_mb": [memory[len(memory) // 4] / 1e6, memory[-1] / 1e6],
        "scale_parts": parts,
        "scale_read_s": read_s,
        "scale_compact_s": compact_s,
        "scale_read_compact_s": time.perf_counter() - began,
    }


def _cpu_of_others() -> float:
    me = psutil.Process()
    total = sum(me.cpu_times()[:2])
    for child in me.children(recursive=True):
        try:
            if "RolloutWorker" not in " ".join(child.cmdline()):
                total += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue
    return total


def make_suite(name: str, **fields: Any) -> Suite:
    """A suite of this benchmark."""
    world = "stub" if name == "stub" else "libero"
    return parse(Suite, {"name": name, "description": "benchmark", "world": world, **fields}, name)


def assert_complete(result: RunResult) -> None:
    """A benchmark of a run that went wrong says nothing."""
    if result.errors or result.done != result.planned:
        raise SystemExit(f"{result.done} of {result.planned} episodes; {result.errors}")


def show(figures: Mapping[str, Any]) -> None:
    """Print the figures beside their targets."""
    rows: list[Row] = []
    if "stub_steady_per_s" in figures:
        rows += [
            ("stub episodes/s, first lease to last row", f"{figures['stub_steady_per_s']:.0f}", "≥ 500"),
            ("stub episodes/s, whole run with Ray up", f"{figures['stub_wall_per_s']:.0f}", ""),
        ]
    if "overhead_share" in figures:
        rows += [
            ("Ray, ledger and scheduling, share of 2 workers' time", f"{figures['overhead_share']:.2%}", "≤ 2 %"),
            ("  idle at the end, share", f"{figures['overhead_idle_share']:.2%}", ""),
            ("  building simulators, s (both workers)", f"{figures['overhead_build_s']:.1f}", ""),
            (
                "  CPU of driver, controller and Ray, share of the machine",
                f"{figures['overhead_other_cpu_share']:.2%}",
                "",
            ),
        ]
    if "scaling_ratio" in figures:
        rows += [
            ("scripted episodes/h, 1 worker", f"{figures['scaling_1_per_h']:.0f}", ""),
            ("scripted episodes/h, 2 workers", f"{figures['scaling_2_per_h']:.0f}", ""),
            ("  ratio", f"{figures['scaling_ratio']:.2f}", "≥ 1.7"),
        ]
    if "scale_per_s" in figures:
        early, late = figures["scale_memory_mb"]
        rows += [
            (
                f"{figures['scale_workers']} workers, {figures['scale_episodes']:,} episodes: episodes/s",
                f"{figures['scale_per_s']:.0f}",
                f"of {figures['scale_offered_per_s']:.0f} that the workers could do",
            ),
            ("  a lease's answer, median / p99, ms", _pair(figures, "scale_lease_p50_ms", "scale_lease_p99_ms"), ""),
            ("  memory after a quarter / at the end, MB", f"{early:.0f} / {late:.0f}", "flat"),
            ("  parts in the ledger", f"{figures['scale_parts']:,}", ""),
            ("  reading it as it is / compacted, s", _pair(figures, "scale_read_s", "scale_read_compact_s"), ""),
            ("  compacting it, s", f"{figures['scale_compact_s']:.1f}", ""),
        ]
    print(f"{figures['cpu']}, {figures['cores']} cores, load before {figures['load_before']:.1f}")
    for what, value, target in rows:
        print(f"{what:<60}{value:>10}  {target}")


def _pair(figures: Mapping[str, Any], one: str, other: str) -> str:
    return f"{figures[one]:.1f} / {figures[other]:.1f}"


if __name__ == "__main__":
    main()
