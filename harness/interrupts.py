"""Ctrl-C, SIGTERM and SIGHUP (a closed ssh session, a preempted job): one meaning, from a run's first second."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], Any] | int | None


class Interrupts:
    """Counts interruptions inside a `with` block. Outside the main thread, where none arrive, it does nothing."""

    def __init__(self) -> None:
        """Start at zero."""
        self.count = 0
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        """Take the signals over."""
        self._previous = handle_with(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        give_back(self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` in a `with` block at every one of `SIGNALS`, whatever the process did before."""
    previous = handle_with(signal.default_int_handler)
    try:
        yield
    finally:
        give_back(previous)


def handle_with(handler: Callable[[int, FrameType | None], Any]) -> dict[int, Handler]:
    """Install a handler, except for a SIGHUP that is ignored (`nohup`); returns what was there before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    held = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {number: old for number, old in held.items() if (number, old) != (signal.SIGHUP, signal.SIG_IGN)}
    for number in taken:
        signal.signal(number, handler)
    return taken  # type: ignore[return-value]


def give_back(previous: Mapping[Any, Handler]) -> None:
    """Install handlers as `handle_with` returned them."""
    for number, handler in previous.items():
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)
