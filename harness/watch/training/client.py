"""What a training loop calls. It writes files and reads files, in a bounded time, and never raises."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, Self

from harness.time_source import TimeSource, WallTime
from harness.watch.training.outbox import new_submission, read_results, write_submission

LIMIT_S = 0.04
"""Longest time that training waits for the file system, seconds; what takes longer goes on in a thread."""
CLOSE_S = 10.0

log = logging.getLogger("harness.watch")


class EvalClient:
    """Hands checkpoints over for evaluation. Use it on rank 0 only.

    Nothing in here needs a cluster, a network or a heavy import. A submission is a file in the outbox; it is evaluated
    whenever `harness watch --outbox OUTBOX` runs, be it now, tomorrow, or on another machine that sees the folder.

    Example:
        evaluation = harness.EvalClient("outputs/run7/outbox")
        evaluation.submit(checkpoint_dir, step)      # after the checkpoint has been written
        for result in evaluation.poll(): print(result["step"], result["rate"])
    """

    def __init__(
        self,
        outbox: str | os.PathLike[str],
        *,
        limit_s: float = LIMIT_S,
        now_s: Callable[[], float] = time.time,
        stopwatch: TimeSource | None = None,
    ) -> None:
        """Point at an outbox; nothing is created before the first submission.

        Args:
            outbox: Folder on a disk that the watcher sees too.
            limit_s: Longest time that a call may keep training waiting, seconds.
            now_s: Time of day, seconds since 1970.
            stopwatch: What `close` waits by; None: the machine's.
        """
        self._seconds = (stopwatch or WallTime()).seconds
        self._outbox, self._limit_s, self._now_s = Path(os.path.abspath(os.path.expanduser(outbox))), limit_s, now_s
        self._said: set[str] = set()
        self._seen: set[str] = set()
        self._pending: list[threading.Thread] = []

    def submit(
        self,
        checkpoint: str | os.PathLike[str],
        step: int,
        *,
        gpu_hours: float | None = None,
        price: float | None = None,
        loss: float | None = None,
    ) -> bool:
        """Ask for the evaluation of a checkpoint that has been written to its end.

        Args:
            checkpoint: Path (or URI) of the folder that the policy loads, e.g. `…/pretrained_model`.
            step: Training step.
            gpu_hours: What training has taken up to here, GPU-hours: an axis of the learning curve.
            price: What that has cost, in your currency.
            loss: Loss of training here: a jump after a restart is told.

        Returns:
            Whether the submission is on disk already. False: the disk is slow and a thread goes on writing, or it
            cannot be written, which is logged once.
        """
        told = {"gpu_hours": gpu_hours, "price": price, "loss": loss}
        return self._bounded("submit", lambda: self._write(checkpoint, step, told)) is not None

    def poll(self) -> list[dict[str, Any]]:
        """Results that have come in since the last call, each with `name`, `step`, `rate`, `low` and `high`."""
        results = self._read().get("results", [])
        fresh = [one for one in results if isinstance(one, dict) and one.get("name") not in self._seen]
        self._seen.update(str(one.get("name")) for one in fresh)
        return fresh

    def best(self) -> dict[str, Any] | None:
        """The best checkpoint so far, with its interval and `alike`, the names that it cannot be told from."""
        found = self._read().get("best")
        return found if isinstance(found, dict) else None

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Wait for submissions that a slow disk still holds up."""
        deadline = self._seconds() + timeout_s
        for thread in self._pending:
            thread.join(max(deadline - self._seconds(), 0.0))
        self._pending = [thread for thread in self._pending if thread.is_alive()]
        if self._pending:
            self._complain("close", f"{len(self._pending)} submissions are still being written")

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is still being written."""
        self.close()

    def _write(self, checkpoint: str | os.PathLike[str], step: int, told: dict[str, float | None]) -> Path:
        path = write_submission(self._outbox, new_submission(checkpoint, step, self._now_s(), **told))
        # Flushing waits for everything that the disk has to write, a checkpoint of gigabytes perhaps: not in the loop.
        threading.Thread(target=_flush, args=(path,), name="eval-client-flush", daemon=True).start()
        return path

    def _read(self) -> dict[str, Any]:
        return self._bounded("read", lambda: read_results(self._outbox)) or {}

    def _bounded[T](self, what: str, work: Callable[[], T]) -> T | None:
        """Do something in a thread and wait for it, but not long; None when it failed or is not done yet."""
        future: Future[T] = Future()
        thread = threading.Thread(target=_fulfil, args=(future, work), name=f"eval-client-{what}", daemon=True)
        try:
            thread.start()
            return future.result(self._limit_s)
        except FutureTimeout:
            if what == "submit":
                self._pending = [one for one in self._pending if one.is_alive()] + [thread]
            self._complain(what, f"the disk of {self._outbox} took longer than {self._limit_s:g} s; training goes on")
        except Exception as error:
            self._complain(what, f"{type(error).__name__}: {error}")
        return None

    def _complain(self, what: str, message: str) -> None:
        """Log a kind of trouble once: a training log is not the place for its repetition."""
        if what not in self._said:
            self._said.add(what)
            log.warning("EvalClient could not %s: %s. Training is not affected; this is said once.", what, message)


def _fulfil[T](future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


def _flush(path: Path) -> None:
    """Bring a file and its directory entry to the disk, as far as that works."""
    for place in (path, path.parent):
        try:
            descriptor = os.open(place, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(descriptor)
        except OSError:
            pass
        finally:
            os.close(descriptor)
