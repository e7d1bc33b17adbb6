"""Where a run stands: counts, rate, errors, and why it may stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from harness.schedule.early_stopping import StopNote
from harness.spec.policy import PolicyAtNfe


@dataclass(frozen=True, slots=True)
class PolicyProgress:
    """Counts of one policy at one NFE, in this run."""

    planned: int = 0
    done: int = 0
    successes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Counts only what the ledger already holds."""

    planned: int
    """Episodes of the whole plan."""
    skipped: int
    """Of those, in the ledger before this run began."""
    done: int
    """Episodes that this run wrote."""
    successes: int
    errors: int
    per_policy: Mapping[PolicyAtNfe, PolicyProgress]
    workers: int
    """Workers that have asked for work and are alive."""
    started: datetime
    elapsed_s: float
    """Seconds since the first lease."""
    rate: float
    """Episodes written per second."""
    eta_s: float | None
    """Seconds to the end at this rate; None while unknown."""
    eta_band_s: tuple[float, float] | None = None
    """A 90 % band of them; None while too little is known."""
    limit: tuple[str, float] | None = None
    """What workers spend most of their episodes' time on, and its share; see `harness.schedule.pace`."""

    @property
    def remaining(self) -> int:
        """Episodes that are still to be written."""
        return self.planned - self.skipped - self.done


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Errors of one type that the ledger holds from this run."""

    error_type: str
    count: int
    message: str
    """The first one's message."""


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """What the driver polls."""

    progress: Progress
    finished: bool
    """Every unit of the plan is in the ledger."""
    overdue: tuple[str, ...]
    """Workers whose lease has expired."""
    aborted: tuple[str, str] | None
    """(error type, message) of what makes it useless to go on."""
    busy: tuple[str, ...]
    """Workers that hold a lease."""
    superseded: tuple[str, ...] = field(default=(), kw_only=True)
    """Of those, workers whose episode has ended elsewhere."""
    losses_in_a_row: int
    """Workers lost since an episode last came back."""
    errors: tuple[ErrorSummary, ...] = ()
    warnings: tuple[str, ...] = ()
    decided: StopNote | None = None
    """Why the queued units need not run."""
