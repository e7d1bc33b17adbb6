"""What an evaluation costs the training beside it: `python tests/benchmarks/bench_training.py`.

Two gloo ranks train on the cores of this machine, in steps of 60 to 100 ms, through three phases that follow each
other again and again in one job: no evaluation; submissions through `EvalClient` after every fifth step, which somebody
else evaluates; and `harness watch` running real LIBERO on the same cores at nice 19, held still in the other phases.
So whatever else the machine does meets all three alike. Ratios of the median and of p99 against the phase without
evaluation, with bootstrap intervals over rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TESTS = Path(__file__).resolve().parents[1] / "watch"
sys.path.insert(0, str(TESTS))

from training import Training, evaluation_processes, training, wait_until, watcher  # noqa: E402

from checkpoints import write_checkpoint  # noqa: E402
from harness.watch.training.client import EvalClient  # noqa: E402

PHASES = ("none", "client", "beside")
"""No evaluation; submissions for an evaluation elsewhere; an evaluation on the same cores."""
SUITE = """
name: beside
description: long episodes of real LIBERO, without a camera
world: libero
protocol: {max_steps: {libero_spatial: 5000}, settle_steps: 0}
tasks: [{suite: libero_spatial, tasks: [0, 1], init_states: 50}]
"""
MEDIAN = 0.5
WORK = 100
"""Products of 384 × 384 matrices in a step: about 80 ms of a core."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.5, help="Of a phase in each round.")
    parser.add_argument("--nice", type=int, default=19)
    parser.add_argument("--work", type=int, default=WORK)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = measure(Path(folder), options.rounds, options.seconds, options.nice, options.work)
    alone = np.concatenate(samples["none"])
    print(
        f"a step alone: median {1e3 * np.median(alone):.1f} ms, p99 {1e3 * np.quantile(alone, 0.99):.1f} ms, "
        f"n = {alone.size}"
    )
    result: dict[str, object] = {
        "step_ms": 1e3 * float(np.median(alone)),
        "steps": {k: sum(map(len, v)) for k, v in samples.items()},
    }
    for phase, q in itertools.product(PHASES[1:], (MEDIAN, 0.99)):
        ratio, low, high = compare(samples["none"], samples[phase], q, np.random.default_rng(0))
        result[f"{phase} {q}"] = [ratio, low, high]
        print(f"{phase:7} p{100 * q:.0f}: × {ratio:.4f} [{low:.4f}, {high:.4f}]")
    with tempfile.TemporaryDirectory() as folder:
        took = 1e3 * time_submissions(Path(folder))
    result["submit_ms"] = [float(np.median(took)), float(took.max())]
    print(f"one submission: median {np.median(took):.2f} ms, longest {took.max():.1f} ms of {took.size}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(folder: Path, rounds: int, seconds: float, nice: int, work: int) -> dict[str, list[NDArray[np.float64]]]:
    """Step times of each phase, an array per round."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    ledger, suite = folder / "ledger", folder / "suite.yaml"
    suite.write_text(SUITE)
    EvalClient(folder / "evaluated").submit(write_checkpoint(folder / "run", 1), 1)
    # Ray and LIBERO start at normal priority, before the training does: at nice 19 they would take minutes beside it.
    with watcher(folder / "evaluated", ledger, suite, "--nice", "0") as process:
        wait_until(lambda: is_simulating(ledger) or process.poll() is not None, "an evaluation", timeout_s=540)
        if process.poll() is not None:
            raise SystemExit(ledger.with_suffix(".log").read_text())
        lower(ledger, nice)
        with training(folder, evaluation="client", work=work, sleep_s=0.0, save_at=[], timeout_s=60.0) as job:
            time.sleep(10)
            phases = [(phase, *run_phase(phase, job, ledger, seconds)) for phase in order(rounds)]
            set_running(ledger, running=True)
            codes, said = job.stop()
            if codes != [0, 0]:
                raise SystemExit(said)
            return split(job, phases)


def order(rounds: int) -> list[str]:
    """Phases one after another, each round in another order."""
    return [PHASES[(place + shift) % 3] for shift in range(rounds) for place in range(3)]


def run_phase(phase: str, job: Training, ledger: Path, seconds: float) -> tuple[float, float]:
    """Let a phase last; returns when it began, once settled, and when it ended."""
    set_running(ledger, running=phase == "beside")
    submit = job.folder / "submit"
    submit.touch() if phase == "client" else submit.unlink(missing_ok=True)
    time.sleep(0.3)
    began = time.perf_counter()
    time.sleep(seconds)
    if not job.running:
        raise SystemExit(job.end()[1])
    return began, time.perf_counter()


def split(job: Training, phases: list[tuple[str, float, float]]) -> dict[str, list[NDArray[np.float64]]]:
    """Steps of rank 0 that lie wholly inside a phase."""
    began, took = np.array(job.times(0, "began")), np.array(job.times(0))
    found: dict[str, list[NDArray[np.float64]]] = {phase: [] for phase in PHASES}
    for phase, start, end in phases:
        found[phase].append(took[(began >= start) & (began + took <= end)])
    return found


def lower(ledger: Path, nice: int) -> None:
    """Give everything of the evaluation the priority that `harness watch --nice` gives it."""
    found = evaluation_processes(ledger, "")
    for process in found:
        for thread in process.threads():
            os.setpriority(os.PRIO_PROCESS, thread.id, nice)
    for session in {os.getsid(process.pid) for process in found}:
        with contextlib.suppress(OSError):
            Path(f"/proc/{session}/autogroup").write_text(str(nice))


def set_running(ledger: Path, *, running: bool) -> None:
    """Let the evaluation go on, or hold it still: every process of it."""
    for process in evaluation_processes(ledger, ""):
        process.send_signal(signal.SIGCONT if running else signal.SIGSTOP)


def is_simulating(ledger: Path) -> bool:
    """Whether a rollout worker has MuJoCo loaded and has been at work for a while."""
    workers = evaluation_processes(ledger, "ray::RolloutWor")
    return any(sum(one.cpu_times()[:2]) > 12 for one in workers)


def compare(
    base: list[NDArray[np.float64]], other: list[NDArray[np.float64]], q: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Ratio of quantiles, with a 95 % bootstrap interval over rounds.

    Medians are compared round by round, which leaves out what the machine does in longer waves; a round has too few
    steps for its own p99, so that is taken over all rounds.
    """
    n = len(base)
    by_round = np.array([np.median(other[i]) / np.median(base[i]) for i in range(n)])

    def ratio(rounds: NDArray[np.int64]) -> float:
        if q == MEDIAN:
            return float(np.median(by_round[rounds]))
        return float(np.quantile(np.concatenate([other[i] for i in rounds]), q)) / float(
            np.quantile(np.concatenate([base[i] for i in rounds]), q)
        )

    draws = [ratio(rng.integers(0, n, n)) for _ in range(1000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return ratio(np.arange(n)), float(low), float(high)


def time_submissions(outbox: Path, n: int = 200) -> NDArray[np.float64]:
    """Seconds that each of many submissions takes."""
    client, took = EvalClient(outbox), []
    for step in range(n):
        began = time.perf_counter()
        client.submit("model", step)
        took.append(time.perf_counter() - began)
    return np.array(took)


if __name__ == "__main__":
    main()
