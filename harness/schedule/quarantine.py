"""Where an episode runs after faults: elsewhere first, and never on a node that alone keeps failing. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from harness.schedule.retry import Fault, fault_of
from harness.schedule.units import EpisodeIdentity

FAULTS_IN_A_ROW = 3
"""Faults of its own after which a node gets no more work."""


@dataclass(slots=True)
class _Record:
    finished: int = 0
    in_a_row: int = 0
    victims: set[EpisodeIdentity] = field(default_factory=set)
    """Episodes that failed since one last came back."""


class Nodes:
    """Who works where, and what became of it."""

    def __init__(self) -> None:
        """Nobody works yet."""
        self._seats: dict[str, str] = {}
        self._records: defaultdict[str, _Record] = defaultdict(_Record)
        self._failed_on: dict[EpisodeIdentity, set[str]] = {}
        self._barred: dict[str, str] = {}

    @property
    def barred(self) -> dict[str, str]:
        """Node that gets no more work → why, in a sentence."""
        return dict(self._barred)

    @property
    def any_failed(self) -> bool:
        """Whether any unit waits for another node."""
        return bool(self._failed_on)

    def seat(self, worker: str, node: str) -> None:
        """A worker has asked for work from a node."""
        self._seats[worker] = node

    def leave(self, worker: str) -> str:
        """A worker is gone; the node that it was on, "" where it never asked."""
        return self._seats.pop(worker, "")

    def elsewhere(self, unit: EpisodeIdentity) -> bool:
        """Whether somebody works on a node that the unit has not failed on."""
        return bool(set(self._seats.values()) - {""} - self._barred.keys() - self._failed_on.get(unit, set()))

    def may_run(self, unit: EpisodeIdentity, node: str) -> bool:
        """Whether a node may run a unit: not where it has failed, while another node can."""
        return node not in self._failed_on.get(unit, ()) or not self.elsewhere(unit)

    def finished(self, node: str, unit: EpisodeIdentity) -> None:
        """An episode came back from a node."""
        self._records[node] = _Record(self._records[node].finished + 1)
        self._failed_on.pop(unit, None)

    def failed(self, node: str, unit: EpisodeIdentity, error_type: str, message: str) -> None:
        """An episode failed on a node. Faults that are the policy's or its server's say nothing of the node."""
        if fault_of(error_type) is not Fault.NODE or not node:
            return
        self._failed_on.setdefault(unit, set()).add(node)
        record = self._records[node]
        record.in_a_row += 1
        record.victims.add(unit)
        # One episode may be at fault itself; and where no other node works, there is nothing to compare with.
        works = {other for other in self._seats.values() if other != node and other not in self._barred}
        healthy = any(self._records[other].finished and not self._records[other].in_a_row for other in works)
        if record.in_a_row >= FAULTS_IN_A_ROW and len(record.victims) > 1 and healthy and node not in self._barred:
            self._barred[node] = (
                f"Node {node} gets no more work: {record.in_a_row} episodes in a row failed there ({error_type}: "
                f"{message}), while other nodes finish theirs."
            )

    def forget(self, unit: EpisodeIdentity) -> None:
        """A unit will not be tried again."""
        self._failed_on.pop(unit, None)
