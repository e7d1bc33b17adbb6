"""What a run is asked to do, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from harness.clocks import DelaySource
from harness.cluster.isolation import NO_LIMITS, Isolation
from harness.cluster.recording import Recording
from harness.schedule.early_stopping import EarlyStopping
from harness.schedule.progress import Progress
from harness.schedule.units import EpisodeUnit
from harness.spec import Suite
from harness.spec.changes import SuiteChanges
from harness.spec.timing import ClockName

EarlyStoppingBuilder = Callable[[Sequence[EpisodeUnit], Mapping[str, Mapping[str, Any]]], EarlyStopping]
"""(plan, LIBERO suite → protocol manifest) → what looks at the run."""

Admission = Callable[[Sequence[EpisodeUnit], Mapping[str, Mapping[str, Any]]], None]
"""(plan, LIBERO suite → protocol manifest): raises a `HarnessError` to refuse the run."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run as it was asked for; nothing is checked yet. The meaning of each field is that of `harness.run`'s."""

    suite: Suite | str
    out: str
    changes: SuiteChanges = field(default_factory=SuiteChanges)
    """What is changed in the suite."""
    workers: int | None = None
    address: str | None = None
    resume: bool = False
    early_stopping: EarlyStoppingBuilder | None = None
    admission: Admission | None = None
    only: Collection[str] | None = None
    only_clocks: Collection[ClockName] | None = None
    isolation: Isolation = NO_LIMITS
    record: Recording | None = None
    sources: tuple[DelaySource, ...] = ()
    expected: Future[Mapping[str, Any]] | None = None
    """A row of `plans` that is being made elsewhere."""


@dataclass(frozen=True, slots=True)
class RunListener:
    """Whom a run tells what goes on. A terminal or pipe that is gone ends no run."""

    on_progress: Callable[[Progress], None] | None = None
    """Called about four times a second while episodes run."""
    on_message: Callable[[str], None] | None = None
    """Called with a line about what goes on before and after."""

    def progress(self, progress: Progress) -> None:
        """Say where the run stands."""
        if self.on_progress is not None:
            with suppress(OSError):
                self.on_progress(progress)

    def say(self, message: str) -> None:
        """Say a line."""
        if self.on_message is not None:
            with suppress(OSError):
                self.on_message(message)
