"""How much more would decide: the rule's own question, asked of evidence that goes on as it did so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

MOST = 50_000
"""More pairs than so many are not asked for."""


class Prolongable(Protocol):
    """Evidence that can be thought on."""

    @property
    def extent(self) -> int:
        """How much there is, in units of `prolonged`: pairs, clusters where those are sampled, planned pairs."""

    @property
    def coming(self) -> Sequence[int]:
        """Extents at which the plan has looks to come; empty without planned looks."""

    @property
    def whole(self) -> int:
        """Extent of the plan; `extent` without one."""

    def prolonged(self, extent: int) -> Self:
        """The evidence at that extent, should everything go on in the proportions seen so far.

        Beyond the plan: of a longer plan with as many looks.
        """


def more_needed[E: Prolongable](evidence: E, decides: Callable[[E], bool]) -> int | None:
    """How much more decides, if it goes on in the proportions seen so far.

    Args:
        evidence: What there is; it does not decide.
        decides: Whether evidence passes or fails the rule, at the error rates of its design.

    Returns:
        Units beyond `evidence.extent`; None where not even `MOST` decide.
    """
    start = evidence.extent
    if start == 0:
        return None
    for extent in evidence.coming:
        if decides(evidence.prolonged(extent)):
            return extent - start
    low = evidence.whole
    high = low + max(low // 8, 1)
    while not decides(evidence.prolonged(high)):
        low, high = high, high + max(high // 4, 1)
        if high > MOST:
            return None
    while high - low > max(1, high // 500):
        middle = (low + high) // 2
        low, high = (low, middle) if decides(evidence.prolonged(middle)) else (middle, high)
    return high - start


def outlook_text(needed: int | None, extent: int, unit: str = "pairs") -> str:
    """What `more_needed` found, as a sentence.

    Args:
        needed: What it found.
        extent: How much there is.
        unit: What is counted.
    """
    if needed is None:
        return f"If it goes on like this, not even {MOST:,} {unit} decide."
    return f"If it goes on like this, about {needed:,} more {unit} would decide ({extent + needed:,} in all)."
