"""What may end a run before its budget: a sequential gate, for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.schedule.result import EpisodeResult
from harness.schedule.status import RunStatus
from harness.schedule.units import EpisodeUnit


@dataclass(frozen=True, slots=True)
class StopNote:
    """The word of an `EarlyStopping` that the run has answered its question."""

    reason: str
    """One sentence for people."""
    record: Mapping[str, Any]
    """Plain data that is kept beside the ledger as `STOP_RECORD`; nothing is kept of a note without any."""
    status: str = RunStatus.STOPPED
    """Status of the run in the ledger."""


STOP_RECORD = "stop.json"
"""File beside the tables of a run that was stopped early: what had been decided, and from which episodes."""


class EarlyStopping(Protocol):
    """What may end a run before its budget. It travels to the controller, so it has to pickle."""

    def rounds(self) -> Sequence[Sequence[EpisodeUnit]]:
        """Every unit of the plan, in rounds: a round is leased out before the next one begins."""

    def take(self, results: Sequence[EpisodeResult]) -> StopNote | None:
        """Take results that are in the ledger; a note drops what is still queued."""
