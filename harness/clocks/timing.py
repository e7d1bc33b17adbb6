"""One clock with one source of delays: what a cell of a table is run under."""

from __future__ import annotations

from dataclasses import dataclass

from harness.clocks.clock import CLOCK_OF, Clock
from harness.clocks.delays import Delay, DelaySource
from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import SYNCHRONOUS, ClockName


@dataclass(frozen=True)
class Timing:
    """A clock, and where its delays come from."""

    clock_name: ClockName = SYNCHRONOUS
    source: DelaySource | None = None
    """None under the synchronous clock, where nothing is delayed."""

    @property
    def clock(self) -> Clock:
        """The clock."""
        return CLOCK_OF[self.clock_name]

    @property
    def latency_source(self) -> str | None:
        """`latency_source` in rows."""
        return self.source.name if self.source is not None else None

    def delay(self, variant: PolicyAtNfe, episode_key: str, decision: int) -> Delay:
        """What a decision takes; nothing under the synchronous clock."""
        return Delay(0.0) if self.source is None else self.source.draw(variant, episode_key, decision)


IN_NO_TIME = Timing()
"""The published protocol: inference takes no simulated time."""
