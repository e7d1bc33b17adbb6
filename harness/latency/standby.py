"""Measuring processes that have started and imported, and wait for their turn to measure."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Self

import psutil

from harness.cores import usable_cores
from harness.latency.child import POLL_S, serve
from harness.policies.registry import POLICIES, PYTHON_KIND, PolicyRequest
from harness.time_source import TimeSource, WallTime

# How long a child may take to hand over what it has after it was asked to stop: one decision of a slow policy.
GRACE_S = 15.0
# More at once would import no faster: they read the same files.
MAX_AHEAD = 4
# What has to be free for a process that waits with torch imported, bytes: three times what it holds.
ROOM_BYTES = 2 * 10**9

Imports = Callable[[], object]
"""What a child imports before its turn; picklable, and equal for equal imports."""


@dataclass(frozen=True, slots=True)
class PolicyCode:
    """Imports the code of a policy; nothing is built and no device is touched."""

    kind: str
    path: str | None = None
    """Of a kind whose path names its code."""

    @classmethod
    def of(cls, spec: PolicyRequest) -> Self:
        """The code of the policy that `spec` asks for."""
        return cls(spec.kind, spec.path if spec.kind == PYTHON_KIND else None)

    @property
    def options(self) -> dict[str, Any]:
        """None, as a request."""
        return {}

    def __call__(self) -> None:
        """Import it.

        Raises:
            HarnessError: It cannot be imported.
        """
        POLICIES.load(self)


class ChildProcess:
    """A process from its start to its end."""

    def __init__(self, imports: Imports | None) -> None:
        """Start it; it imports at once."""
        context = multiprocessing.get_context("spawn")
        self.imports = imports
        self.connection: Connection
        self.connection, its_end = context.Pipe()
        self.stop: Any = context.Event()
        """Asks it for an early end."""
        self.process: SpawnProcess = context.Process(target=serve, args=(its_end, self.stop, imports))
        self.started, self.ready = False, False
        """Whether it has said its first word; whether it has imported."""
        with interrupts_blocked():
            self.process.start()
        its_end.close()

    def is_ready(self, timeout_s: float) -> bool:
        """Take its words until it has imported; False when it has not by then, or is gone."""
        try:
            while not self.ready and self.connection.poll(timeout_s):
                kind, _ = self.connection.recv()
                self.started = True
                self.ready = kind == "ready"
        except (EOFError, ConnectionError):
            self.process.join(GRACE_S)
        return self.ready

    def end(self) -> None:
        """Make sure that it is gone."""
        # One that waits for work ends when nobody can give it any.
        self.connection.close()
        self.process.join(1.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join(GRACE_S)


class Standby:
    """Starts children ahead of their turn, but only while nobody measures.

    Several are started together, one for each core: that takes hardly longer than one. A process measures once and
    ends, so samples of two launches never share one.
    """

    def __init__(self, ahead: int | None = None, *, clock: TimeSource | None = None) -> None:
        """Keep up to `ahead` children waiting; None for one per usable core, up to `MAX_AHEAD`."""
        self._ahead = min(usable_cores(), MAX_AHEAD) if ahead is None else ahead
        self._clock = clock or WallTime()
        self._waiting: list[ChildProcess] = []
        self._upcoming: tuple[Imports | None, ...] = ()

    def __enter__(self) -> Self:
        """Nothing is started before the first `take`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End whoever still waits."""
        for child in self._waiting:
            # Not asked but killed: it has nothing to say, and may be in the middle of an import.
            child.process.kill()
            child.end()
        self._waiting.clear()

    def take(self, imports: Imports | None, then: Sequence[Imports | None] = ()) -> ChildProcess:
        """The child whose turn it is. Nobody measures now.

        Args:
            imports: What it has to have imported.
            then: The same of those that come after it, as far as that is known.
        """
        self._upcoming = (imports, *then)
        self.fill()
        child = next((each for each in self._waiting if each.imports == imports), None) or ChildProcess(imports)
        if child in self._waiting:
            self._waiting.remove(child)
        self._upcoming = tuple(then)
        return child

    def fill(self) -> None:
        """Start the next children, unless some wait already. Only to be called while nobody measures."""
        wanted = list(self._upcoming)
        for child in list(self._waiting):
            if child.imports in wanted:
                wanted.remove(child.imports)
            else:
                self._waiting.remove(child)
                child.process.kill()
                child.end()
        if self._waiting:
            return
        room = int(psutil.virtual_memory().available // ROOM_BYTES)
        self._waiting += [ChildProcess(imports) for imports in wanted[: min(self._ahead, room)]]

    def settle(self, child: ChildProcess, timeout_s: float) -> bool:
        """Wait until `child` and all others have imported, so that none of them disturbs a measurement.

        Returns:
            Whether `child` is ready; False when it died, or `timeout_s` went by.
        """
        deadline = self._clock.seconds() + timeout_s
        everyone = [child, *self._waiting]
        while unready := [each for each in everyone if not each.is_ready(0.0) and each.process.is_alive()]:
            if self._clock.seconds() >= deadline:
                break
            multiprocessing.connection.wait([each.connection for each in unready], POLL_S)
        return child.is_ready(0.0)


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Hold Ctrl-C back: a child that starts meanwhile inherits the blocked signal, and a message is sent whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
