"""Launches: the fresh processes in which a configuration is measured, what they cost and how their samples count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from harness.ledger.schema import Row
from harness.spec.suite import ProbePlan
from harness.time_source import TimeSource


@dataclass(frozen=True, slots=True)
class ProbeProgress:
    """What a probe costs in time, and how much of it is left."""

    configurations: int
    """At most so many; a policy without a denoising loop is measured at one NFE."""
    launches: int
    seconds_each: float
    """Least measuring time of one configuration in one launch."""
    began: float
    clock: TimeSource

    @classmethod
    def of(cls, plan: ProbePlan, policies: int, clock: TimeSource) -> Self:
        """Price of a plan, from now on.

        Args:
            plan: Policies, NFE values, batch sizes, launches and budget of the probe.
            policies: How many policies, variants and instruction lengths counted.
            clock: Stopwatch by which the rest is estimated.
        """
        each = max(1, len(plan.nfe)) * len(plan.batch_sizes)
        return cls(policies * each, plan.launches, plan.budget.min_seconds, clock.seconds(), clock)

    @property
    def price(self) -> str:
        """Said before anything is measured."""
        least = duration(self.configurations * self.launches * self.seconds_each)
        what = f"{_counted(self.configurations, 'configuration')}, {_counted(self.launches, 'launch', 'launches')} each"
        quick = "; --launches 1 is a quick look, within one process" if self.launches > 1 else ""
        return f"{what}: at least {least} of measuring, besides starting and warming up{quick}"

    def after(self, done: int) -> str:
        """Said when every configuration was launched `done` times."""
        spent = self.clock.seconds() - self.began
        left = spent / done * (self.launches - done)
        return f"launch {done + 1} of {self.launches}; about {duration(left)} left"


@dataclass(slots=True)
class SampleNumbers:
    """Numbers the samples of a configuration on from launch to launch, so that each is unique in its run."""

    _next: dict[tuple[object, ...], int] = field(default_factory=dict)

    def continued(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of one launch of one configuration, with their samples numbered after those of the launches before."""
        key = tuple(rows[0][name] for name in ("node_id", "policy_id", "nfe", "batch_size"))
        first = self._next.get(key, 0)
        self._next[key] = first + max(row["sample"] for row in rows) + 1
        return [{**row, "sample": first + row["sample"]} for row in rows]


def duration(seconds: float) -> str:
    """A duration as people say it: "40 s", "6 min 40 s", "1 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _counted(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or f'{one}s'}"
