"""Work handed out: one unit, and what an idle worker is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.schedule.units import EpisodeUnit

Filming = Literal["never", "always", "on_failure"]
"""Whether an episode is filmed."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One unit handed to a worker."""

    unit: EpisodeUnit
    attempt: int
    """Which attempt this is, from 1, over all runs of the ledger."""
    video: Filming = "never"
    """"on_failure": if it times out and the controller agrees."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What an idle worker is told."""

    lease_id: int = -1
    items: tuple[WorkItem, ...] = ()
    wait_s: float = 0.0
    """Without items: ask again after this long, because another worker may yet lose its work."""
    stop: bool = False
    """Nothing is left, or the run is being stopped."""
