"""Time, as an argument."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class TimeSource(Protocol):
    """Reads the time of day and a stopwatch."""

    def now(self) -> datetime:
        """Time of day, UTC."""
        ...

    def seconds(self) -> float:
        """Monotonic seconds from an arbitrary origin."""
        ...


class WallTime:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Time of day, UTC."""
        return datetime.now(UTC)

    def seconds(self) -> float:
        """Monotonic seconds from an arbitrary origin."""
        return time.perf_counter()
