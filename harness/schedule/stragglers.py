"""The last episodes of a run, started a second time elsewhere so that one slow node keeps nobody waiting. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.schedule.result import EpisodeResult
from harness.schedule.units import EpisodeIdentity, EpisodeUnit

LATE = 1.5
"""How many times what such an episode takes one has to be under way before it is started again."""
LEAST_S = 5.0
"""No episode is started again before it has run for that long: a copy costs a node the opening of the task."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An episode that a worker runs alone."""

    lease_id: int
    unit: EpisodeUnit
    node: str
    elapsed_s: float
    expected_s: float
    """What an episode of its task takes."""


def choose_straggler(running: Iterable[UnderWay], node: str) -> UnderWay | None:
    """The episode that an idle worker should run a second time, if there is any: the one that is late by most.

    Args:
        running: Episodes under way, without those that run twice already.
        node: Where the idle worker is. An episode is started again only elsewhere: beside itself it would slow down
            the first.
    """
    late = [
        each
        for each in running
        if node and each.node and each.node != node and each.elapsed_s > max(LEAST_S, LATE * each.expected_s)
    ]
    return max(late, key=lambda each: each.elapsed_s / each.expected_s, default=None)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An episode that ended twice."""

    counted: EpisodeResult
    """The one in the table `episodes`: it ended first."""
    other: EpisodeResult

    @property
    def equal(self) -> bool:
        """Whether both went the same way to the bit."""
        one, two = self.counted, self.other
        return (one.outcome, one.trajectory_sha256) == (two.outcome, two.trajectory_sha256)


class Copies:
    """Which units run twice, and which of the two ended first."""

    def __init__(self) -> None:
        """Nothing runs twice."""
        self._leases: dict[EpisodeIdentity, set[int]] = {}
        self._first: dict[EpisodeIdentity, EpisodeResult] = {}
        self._ended: list[Duplicate] = []

    def begin(self, unit: EpisodeIdentity, first: int, second: int) -> None:
        """A unit of one open lease runs in another, too."""
        self._leases[unit] = {first, second}

    def twice(self, unit: EpisodeIdentity) -> bool:
        """Whether a unit was started twice."""
        return unit in self._leases

    def close(self, unit: EpisodeIdentity, lease_id: int) -> bool:
        """One of a unit's leases is over; whether the other one still runs."""
        others = self._leases.get(unit)
        if others is None:
            return False
        others.discard(lease_id)
        return bool(others)

    def superseded(self, unit: EpisodeIdentity) -> bool:
        """Whether the unit has ended, so that what still runs of it counts no more."""
        return unit in self._first

    def end(self, result: EpisodeResult) -> bool:
        """A unit has ended in one of its leases; whether that is the one that counts."""
        unit = result.unit.identity
        if unit not in self._leases:
            return True
        first = self._first.setdefault(unit, result)
        if first is not result:
            self._ended.append(Duplicate(first, result))
        return first is result

    def take(self) -> list[Duplicate]:
        """Episodes that ended twice since this was last asked."""
        ended, self._ended = self._ended, []
        return ended
