"""Starts a training of two ranks, and finds the processes of an evaluation."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from harness.watch.evaluation.evaluate import MARK, token_of

LOOP = Path(__file__).with_name("training_loop.py")
SUITE = """
name: slow-stubs
description: episodes that last longer than a collective may
world: stub
protocol: {{max_steps: {{stub_slow: {max_steps}}}, settle_steps: 0}}
tasks: [{{suite: stub_slow, tasks: [0], init_states: {episodes}}}]
"""


@dataclass
class Training:
    """A training job of two processes."""

    folder: Path
    ranks: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, **changes: Any) -> Training:
        """Start both ranks; see `training_loop` for what may be changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        request = {
            "port": port,
            "backend": "gloo",
            "timeout_s": 4.0,
            "steps": 100_000,
            "work": 1,
            "width": 0,
            "batch": 64,
            "sleep_s": 0.02,
            "save_at": [20],
            "run_dir": str(self.folder / "run"),
            "outbox": str(self.folder / "outbox"),
            "submit_file": str(self.folder / "submit"),
            "stop_file": str(self.folder / "stop"),
            "inside_s": 6.0,
            "value": 0.001,
            "evaluation": "none",
            "result": str(self.folder / "times"),
            **changes,
        }
        path = self.folder / "training.json"
        path.write_text(json.dumps(request))
        self.ranks = [
            subprocess.Popen(
                [sys.executable, str(LOOP), str(path), str(rank)],
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in (0, 1)
        ]
        return self

    @property
    def running(self) -> bool:
        """Whether both ranks train."""
        return all(rank.poll() is None for rank in self.ranks)

    def end(self, timeout_s: float = 120.0) -> tuple[list[int], str]:
        """Wait for the end: exit codes, and what the ranks complained about."""
        said = [rank.communicate(timeout=timeout_s)[1] for rank in self.ranks]
        return [rank.returncode for rank in self.ranks], "\n".join(said)

    def stop(self) -> tuple[list[int], str]:
        """End it in good order, as when its steps are done."""
        (self.folder / "stop").touch()
        return self.end()

    def times(self, rank: int = 0, what: str = "times") -> list[float]:
        """Seconds of each step; or, as "began", when it began by the clock `time.perf_counter`."""
        found: list[float] = json.loads((self.folder / f"times-{rank}.json").read_text())[what]
        return found


@contextlib.contextmanager
def training(folder: Path, **changes: Any) -> Iterator[Training]:
    """A training that does not outlive its test."""
    job = Training(folder).start(**changes)
    try:
        yield job
    finally:
        for rank in job.ranks:
            if rank.poll() is None:
                rank.kill()
                rank.wait()


@contextlib.contextmanager
def watcher(
    outbox: Path, ledger: Path, suite: Path, *options: str, log_file: Path | None = None, inside: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """`harness watch`, in a process of its own, which does not outlive its test; `inside`: a command that starts it."""
    log = open(log_file or ledger.with_suffix(".log"), "a", encoding="utf-8")  # noqa: SIM115 - closed below
    command = [
        *inside,
        *(sys.executable, "-c", "from harness.cli import main; main()", "watch", "--outbox", str(outbox)),
        *("--suite", str(suite), "--policy-kind", "python:checkpoints:Stepper", "--out", str(ledger)),
        *("--poll", "0.2", "--unchanged", "1", *options),
    ]
    process = subprocess.Popen(command, stdout=log, stderr=log, text=True, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.close()


def evaluation_processes(ledger: Path, name: str) -> list[psutil.Process]:
    """Processes of a ledger's evaluation whose name contains a text."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if name in process.name() and process.environ().get(MARK) == token_of(str(ledger)):
                found.append(process)
    return found


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 180.0) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It did not come true.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)
