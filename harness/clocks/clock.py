"""What the robot does between two observations, under each clock. Pure: steps and delays in, moves out.

A decision's observation is taken at control step o of its episode and its answer is in hand at o + delay. Which actions
are executed until the next observation is the clock's:

`synchronous`: the simulation waits; inference takes no simulated time (the published protocol).
`blocking`: the robot holds while the policy thinks, then executes the replan interval.
`asynchronous`: the old chunk goes on while the new one is computed. Action i of a chunk belongs to step o + i, so
    actions whose time has passed are skipped. When the old chunk runs out, the robot holds.
`rtc`: as `asynchronous`, and the policy is told which actions of the old chunk will be executed before its answer is in
    hand, and makes its new chunk continue them (real-time chunking, Black et al. 2025, arXiv:2506.07339).
`wall`: as `asynchronous`, in real time: a decision's delay is the steps that passed until it was in hand.

One decision is in flight at a time. The next observation is taken when the replan interval is over, or so much earlier
that the next answer is expected before the chunk runs out; what is expected is the longest of the last `MEMORY` delays,
as in real-time chunking. With no delay every clock is `synchronous`. A clock that blends old and new chunk, or corrects
the new one as A2C2 does (arXiv:2509.23224), would be one more entry of `CLOCK_OF`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.spec.timing import ClockName

MEMORY = 10
"""Delays that are remembered to expect the next one."""


class Move(NamedTuple):
    """What is executed in one control step."""

    which: Literal["new", "old", "hold"]
    """The chunk just decided, the one before, or nothing."""
    action: int
    """Which action of that chunk; 0 for a hold."""


HOLD = Move("hold", 0)


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock of the protocol."""

    name: ClockName
    overlaps: bool = False
    """Whether the robot goes on with the old chunk while the policy decides."""
    freezes: bool = False
    """Whether the policy is told what will be executed meanwhile."""
    real: bool = False
    """Whether steps and decisions take the time that they take, so that a source of delays only predicts them."""

    def moves(
        self, delay: int, expected: int, *, interval: int, chunk_length: int, old_from: int | None
    ) -> tuple[Move, ...]:
        """Moves from one observation to the next.

        Args:
            delay: Control steps until the answer is in hand.
            expected: What the next delay is expected to be, control steps.
            interval: Actions of a chunk that the protocol executes before the next decision.
            chunk_length: T.
            old_from: Action of the old chunk that belongs to the first of these steps; None without an old chunk.
        """
        if not self.overlaps:
            return (HOLD,) * delay + tuple(Move("new", i) for i in range(interval))
        ahead = max(delay, min(interval, chunk_length - expected), 1)
        return tuple(self._move(i, delay, chunk_length, old_from) for i in range(ahead))

    def _move(self, step: int, delay: int, chunk_length: int, old_from: int | None) -> Move:
        if step >= delay:
            return Move("new", step) if step < chunk_length else HOLD
        if old_from is not None and old_from + step < chunk_length:
            return Move("old", old_from + step)
        return HOLD

    def expect(self, delays: Sequence[int]) -> int:
        """The next delay to expect, control steps, after those that there were."""
        return max(delays[-MEMORY:], default=0)

    def outlives(self, delay: int, chunk_length: int, max_steps: int) -> str | None:
        """Why nothing would ever be executed at a delay; None where something is.

        Args:
            delay: Control steps that every decision takes at least.
            chunk_length: T.
            max_steps: Control steps of an episode.
        """
        if delay >= max_steps:
            return f"a delay of {delay} steps is as long as the episode, {max_steps} steps"
        if self.overlaps and delay >= chunk_length:
            return f"the chunk of {chunk_length} steps does not outlast the delay of {delay} steps"
        return None


CLOCK_OF: Mapping[ClockName, Clock] = {
    "synchronous": Clock("synchronous"),
    "blocking": Clock("blocking"),
    "asynchronous": Clock("asynchronous", overlaps=True),
    "rtc": Clock("rtc", overlaps=True, freezes=True),
    "wall": Clock("wall", overlaps=True, real=True),
}
"""Every clock by its name."""
VIRTUAL = tuple(name for name, clock in CLOCK_OF.items() if not clock.real)
"""Clocks whose time is simulated."""
