"""A time limit on Python code that may never return, by the interval timer of the process."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class AlarmRang(BaseException):
    """The limit passed. Not an `Exception`, so that a policy's own `except Exception` cannot swallow it."""


class Alarm:
    """Interrupts the block it guards, once its seconds have passed, with `AlarmRang`.

    `with alarm.limit(3.0): …`. Works in the main thread only, where Python delivers signals; elsewhere, and
    inside C code that never returns to Python, the block runs unlimited, and whoever waits for it has to give it up.
    """

    def __init__(self) -> None:
        """Install the signal handler, if this is the main thread."""
        self.works = threading.current_thread() is threading.main_thread()
        self._armed = False
        self._seconds = 0.0
        if self.works:
            self._previous = signal.signal(signal.SIGALRM, self._ring)

    def limit(self, seconds: float) -> Alarm:
        """Set the limit of the next block, seconds (> 0)."""
        self._seconds = seconds
        return self

    def close(self) -> None:
        """Give the signal back to its previous owner."""
        if self.works:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._previous)

    def __enter__(self) -> None:
        """Start the timer."""
        if self._rings_here():
            self._armed = True
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the timer. A signal that arrives after the flag is down does nothing."""
        if self._rings_here():
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _rings_here(self) -> bool:
        """Whether the guarded code runs where a signal would interrupt it, and not another thread's."""
        return self.works and threading.current_thread() is threading.main_thread()

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            raise AlarmRang
