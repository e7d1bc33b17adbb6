"""Whether a faulty evaluation can hold a training up: `python tests/benchmarks/bench_training_faults.py`.

Two ranks train a network with `DistributedDataParallel` (gloo on CPUs, `--backend nccl` on two GPUs) and a limit of
60 s on every collective. Two `harness watch` evaluate on the same host, on cores of their own where there are enough:
real LIBERO where it is installed, else the stub world. One after another: training alone; both evaluate; every process
of both is stopped (SIGSTOP) for longer than a collective may take; the disk of the first one's ledger runs full; every
process of the second is killed (SIGKILL); alone again. `--apart` gives the second one a network of its own (a
namespace), as another node has. Reported: ranks that failed, and each phase's steps, their median, p99 and longest,
with ratios against training alone (bootstrap over blocks of a second). Needs root on Linux, for a small tmpfs. Exits 1
when a rank failed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "watch")]

from small_disk import SmallDisk  # noqa: E402
from training import Training, evaluation_processes, training, wait_until, watcher  # noqa: E402

from checkpoints import write_checkpoint  # noqa: E402
from harness.ledger import read  # noqa: E402
from harness.watch.training.client import EvalClient  # noqa: E402

SUITES: Mapping[str, str] = {
    "libero": """
name: beside
description: short episodes of real LIBERO, without a camera
world: libero
protocol: {max_steps: {libero_spatial: 100}, settle_steps: 0}
tasks: [{suite: libero_spatial, tasks: [0, 1], init_states: 50, trials: 20}]
""",
    "stub": """
name: beside
description: stub episodes of a second
world: stub
protocol: {max_steps: {stub_slow: 50}, settle_steps: 0}
tasks: [{suite: stub_slow, init_states: 50, trials: 4}]
""",
}
NETWORKS: Mapping[str, dict[str, float]] = {
    "gloo": {"width": 256, "work": 4, "batch": 64, "sleep_s": 0.05},
    "nccl": {"width": 4096, "work": 12, "batch": 512, "sleep_s": 0.0},
}
"""Backend → steps: on a GPU 200 million parameters, whose gradients are 0.8 GB; on CPUs little, to leave room."""
SETTLE_S = 1.0
"""Of a phase's beginning, not looked at."""
Samples = Mapping[str, Sequence[NDArray[np.float64]]]
"""Phase → step times, seconds, in blocks of about a second."""


@dataclass
class Trial:
    """A training, two evaluations beside it, and the phases that they went through."""

    folder: Path
    job: Training
    options: argparse.Namespace
    phases: list[tuple[str, float, float]] = field(default_factory=list)
    """(name, when it began and ended by `time.perf_counter`)."""

    def last(self, phase: str, seconds: float) -> None:
        """Let a phase last."""
        began = time.perf_counter()
        until = began + SETTLE_S + seconds
        while time.perf_counter() < until and self.job.running:
            time.sleep(0.1)
        self.phases.append((phase, began + SETTLE_S, time.perf_counter()))
        print(f"{phase}: {time.perf_counter() - began:.0f} s", flush=True)

    @property
    def ledgers(self) -> tuple[Path, Path]:
        """Of the two evaluations; the first one's stands on a disk of its own."""
        return self.folder / "disk" / "ledger", self.folder / "second"

    def evaluating(self) -> list[psutil.Process]:
        """Every process of both evaluations."""
        return [process for ledger in self.ledgers for process in evaluation_processes(ledger, "")]

    def is_evaluating(self) -> bool:
        """Whether both have written an episode."""
        return all(list(ledger.glob("episodes/*.parquet")) for ledger in self.ledgers)


def split_cores(n_training: int) -> tuple[list[int], list[int]]:
    """(cores of the training, cores of the evaluations): all of them both, where there are too few to part."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[:n_training], cores[n_training:]) if len(cores) >= n_training + 2 else (cores, cores)


@contextlib.contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Have what is started meanwhile run on these cores."""
    held = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, held)


def measure(folder: Path, options: argparse.Namespace) -> tuple[Samples, dict[str, Any]]:
    """Step times of each phase, and what else came of it."""
    began = time.monotonic()
    world = options.world or ("libero" if importlib.util.find_spec("libero") else "stub")
    (folder / "suite.yaml").write_text(SUITES[world])
    (folder / "disk").mkdir()
    own, others = split_cores(options.training_cores)
    changes = {**NETWORKS[options.backend], "backend": options.backend, "timeout_s": options.timeout}
    with contextlib.ExitStack() as stack:
        disk = SmallDisk(folder / "disk")
        stack.callback(disk.close)
        with pinned(own):
            job = stack.enter_context(training(folder / "training", save_at=[1], **changes))
        wait_until(lambda: (folder / "training" / "run").exists() or not job.running, "a first step")
        trial = Trial(folder, job, options)
        trial.last("alone", options.seconds)
        start_watchers(trial, others, stack)
        wait_until(lambda: trial.is_evaluating() or not job.running, "episodes", timeout_s=300)
        print(f"both evaluate {world} after {time.monotonic() - began:.0f} s", flush=True)
        trial.last("beside", options.seconds)
        send(trial, signal.SIGSTOP)
        trial.last("stopped", options.stopped)
        send(trial, signal.SIGCONT)
        disk.fill()
        trial.last("disk full", options.seconds / 2)
        for process in evaluation_processes(trial.ledgers[1], ""):
            with contextlib.suppress(psutil.Error):
                process.kill()
        trial.last("killed", options.seconds / 2)
        disk.mend()
        send(trial, signal.SIGKILL)
        trial.last("alone", options.seconds / 2)
        codes, said = job.stop()
        result = {
            "backend": options.backend,
            "world": world,
            "collective_timeout_s": options.timeout,
            "cores": {"training": own, "evaluations": others},
            "exit_codes": codes,
            "time_outs": len(re.findall("Timed out|collective operation timeout", said)),
            "ranks_said": said[-2000:],
            "episodes": [count(ledger) for ledger in trial.ledgers],
            "watchers_said": [log.read_text(errors="replace")[-1500:] for log in sorted(folder.glob("watch-*.log"))],
            "wall_s": time.monotonic() - began,
        }
        return (blocks(job, trial.phases) if codes == [0, 0] else {}), result


def start_watchers(trial: Trial, cores: Sequence[int], stack: contextlib.ExitStack) -> None:
    """Start both, each on a half of the cores."""
    half = -(-len(cores) // 2)
    parts = (cores[:half], cores[half:] or cores)
    for place, (ledger, part) in enumerate(zip(trial.ledgers, parts, strict=True)):
        outbox = trial.folder / f"outbox-{place}"
        EvalClient(outbox).submit(write_checkpoint(trial.folder / f"run-{place}", 1, 0.001), 1)
        told = trial.folder / f"watch-{place}.log"
        more = (
            "--cpus",
            ",".join(map(str, part)),
            "--gpu",
            "none",
            "--workers",
            str(min(len(part), 12)),
            "--nice",
            str(trial.options.nice),
        )
        inside = namespace(stack) if place and trial.options.apart else ()
        suite = trial.folder / "suite.yaml"
        stack.enter_context(watcher(outbox, ledger, suite, *more, log_file=told, inside=inside))


def namespace(stack: contextlib.ExitStack) -> tuple[str, ...]:
    """A command that starts another one in a network of its own, which goes with the stack."""
    name = f"h{os.getpid()}-apart"
    subprocess.run(["ip", "netns", "add", name], check=True)
    stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    return ("ip", "netns", "exec", name)


def send(trial: Trial, number: signal.Signals) -> None:
    """Send a signal to every process of both evaluations."""
    for process in trial.evaluating():
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def count(ledger: Path) -> int:
    """Episodes that can be read."""
    return len(read(ledger).episodes)


def blocks(job: Training, phases: Sequence[tuple[str, float, float]]) -> Samples:
    """Steps of rank 0 that lie wholly inside a phase, in blocks of a second."""
    began, took = np.array(job.times(0, "began")), np.array(job.times(0))
    found: dict[str, list[NDArray[np.float64]]] = {}
    for phase, start, end in phases:
        edges = np.arange(start, end, 1.0)
        for low, high in zip(edges, [*edges[1:], end], strict=True):
            # A step belongs to the block in which it began, however long it took.
            found.setdefault(phase, []).append(took[(began >= low) & (began < high)])
    return {phase: [block for block in held if block.size] for phase, held in found.items()}


def describe(samples: Samples) -> dict[str, dict[str, Any]]:
    """Phase → steps, median, p99 and longest in ms, and the first two over those of training alone."""
    told: dict[str, dict[str, Any]] = {}
    for phase, held in samples.items():
        steps = np.concatenate(held)
        told[phase] = {
            "steps": int(steps.size),
            "median_ms": 1e3 * float(np.median(steps)),
            "p99_ms": 1e3 * float(np.quantile(steps, 0.99)),
            "longest_ms": 1e3 * float(steps.max()),
        }
        if phase != "alone":
            told[phase]["median_ratio"] = ratio(samples["alone"], held, 0.5)
            told[phase]["p99_ratio"] = ratio(samples["alone"], held, 0.99)
    return told


def ratio(base: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]], q: float) -> list[float]:
    """[ratio of quantiles, lower and upper end of its 95 % interval]."""
    rng = np.random.default_rng(0)

    def draw(held: Sequence[NDArray[np.float64]]) -> float:
        return float(np.quantile(np.concatenate([held[i] for i in rng.integers(0, len(held), len(held))]), q))

    low, high = np.quantile([draw(other) / draw(base) for _ in range(1000)], [0.025, 0.975])
    point = np.quantile(np.concatenate(other), q) / np.quantile(np.concatenate(base), q)
    return [float(point), float(low), float(high)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", choices=sorted(NETWORKS), default="gloo")
    parser.add_argument("--world", choices=sorted(SUITES), help="Default: libero where it is installed.")
    parser.add_argument("--timeout", type=float, default=60.0, help="Of a collective, seconds.")
    parser.add_argument("--seconds", type=float, default=10.0, help="Of alone and beside; twice the others'.")
    parser.add_argument("--stopped", type=float, default=62.0, help="While the evaluations stand still.")
    parser.add_argument("--training-cores", type=int, default=8)
    parser.add_argument("--nice", type=int, default=19, help="Of the evaluations.")
    parser.add_argument("--apart", action="store_true", help="The second evaluation in a network of its own.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # So that a limit of time (`timeout`) lets it take away what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS / "watch"), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        samples, result = measure(Path(folder), options)
    result["phases"] = describe(samples)
    print(f"exit codes {result['exit_codes']}, time-outs {result['time_outs']}, episodes {result['episodes']}")
    for phase, told in result["phases"].items():
        line = f"{phase:9} {told['steps']:6d} steps, median {told['median_ms']:.1f}, p99 {told['p99_ms']:.1f}, "
        line += f"longest {told['longest_ms']:.0f} ms"
        for name in ("median", "p99"):
            if f"{name}_ratio" in told:
                line += "; {} × {:.3f} [{:.3f}–{:.3f}]".format(name, *told[f"{name}_ratio"])
        print(line)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    raise SystemExit(result["exit_codes"] != [0, 0])


if __name__ == "__main__":
    main()
