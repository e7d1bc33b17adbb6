"""What ends a private Ray cluster when its driver is killed: Ray's agents would stay for most of a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

import psutil

GRACE_S = 2.0
"""How long processes may take to leave of themselves, once their driver is gone."""


class Watchdog:
    """A process of its own that waits for this one to end. Whatever ends it, SIGKILL too, closes the pipe."""

    def __init__(self, processes: Iterable[psutil.Process]) -> None:
        """Begin to watch.

        Args:
            processes: What is ended, with all descendants that they have by then, if this process ends before `leave`.
        """
        told = [(each.pid, each.create_time()) for each in processes]
        # A session of its own: Ctrl-C on the terminal and a scheduler's signals are for the others.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "harness.cluster.watchdog", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def leave(self) -> None:
        """Stop to watch: the cluster was ended as it should."""
        assert self._process.stdin is not None  # noqa: S101
        with suppress(OSError):
            self._process.stdin.write(b"left\n")
            self._process.stdin.close()
        self._process.wait()


def watch(told: str) -> None:
    """Wait for the end of the pipe, then end what is left.

    Args:
        told: JSON list of (process id, time at which it began): another process of the same number is left alone.
    """
    if sys.stdin.buffer.readline():
        return
    found: dict[int, psutil.Process] = {}
    for pid, began in json.loads(told):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.create_time() == began:
                found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    _, left = psutil.wait_procs(list(found.values()), timeout=GRACE_S)
    for process in left:
        with suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    watch(sys.argv[1])
