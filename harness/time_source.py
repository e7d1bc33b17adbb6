"""Time, as an argument."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class TimeSource(Protocol):
    """Reads the time of day and a stopwatch, and waits."""

    def now(self) -> datetime:
        """Time of day, UTC."""
        ...

    def seconds(self) -> float:
        """Monotonic seconds from an arbitrary origin."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        ...


class WallTime:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Time of day, UTC."""
        return datetime.now(UTC)

    def seconds(self) -> float:
        """Monotonic seconds from an arbitrary origin."""
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)
