"""The largest delay that a policy stands: bisection over delay on paired episodes, not a grid.

Success is taken to fall with delay. A delay stands if success is within the margin of the synchronous run's, over the
same episodes. A probed delay gets its episodes in batches that double, since each is a run of its own, and no more once
its paired interval lies on one side of the margin; when it has had them all, the difference itself decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from harness.analysis.paired.statistics import PairCounts, difference_bounds, mcnemar_exact

Solved = NDArray[np.bool_]
Ask = Callable[[int, int], tuple[Solved, Solved]]
"""(delay in control steps, number of episodes) → whether the synchronous run and the delayed one solved each of the
first so many episodes that both have a result of, shape (n,) each."""

EARLY = 0.95
"""Two-sided level of the interval that ends a probe before all its episodes."""
CONFIDENCE = 0.95
CONTRADICTION = 0.05
"""Level at which more success under a longer delay counts as a contradiction of monotonicity."""


@dataclass(frozen=True)
class DelayProbe:
    """One delay, as far as it was looked at."""

    steps: int
    counts: PairCounts
    low: float
    """Lower 95 % bound of delayed less synchronous success (Tango, corrected)."""
    high: float
    solved: Solved
    """Under the delay, in the episodes' order."""

    def stands(self, margin: float) -> bool:
        """Whether the drop is within the margin."""
        return self.counts.difference >= -margin


@dataclass(frozen=True)
class DelayLimit:
    """The answer."""

    steps: int
    """Largest delay that stands, control steps."""
    low: int
    """Largest probed delay of which a drop beyond the margin is excluded; 0, without a delay, always is."""
    high: int | None
    """Longest delay that is not excluded: one less than the shortest probed one whose drop is surely beyond the margin;
    None where none is."""
    probes: tuple[DelayProbe, ...]
    """In order of delay."""
    episodes: int
    """Delayed and synchronous episodes that were asked for."""
    warnings: tuple[str, ...] = ()


def largest_delay(ask: Ask, longest: int, n: int, margin: float, batch: int | None = None) -> DelayLimit:
    """Bisect.

    Args:
        ask: Plays episodes; asked for the same delay again with more of them.
        longest: Largest delay that is considered, control steps.
        n: Episodes that a delay gets at most.
        margin: Drop that is tolerated, as a fraction.
        batch: Episodes before the first look, of which each one doubles; None for a quarter of `n`.
    """
    size = batch or max(n // 4, 1)
    probes: dict[int, DelayProbe] = {}
    good, bad = 0, longest + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        probes[middle] = _probe(ask, middle, n, size, margin)
        if probes[middle].stands(margin):
            good = middle
        else:
            bad = middle
    found = tuple(probes[steps] for steps in sorted(probes))
    surely_good = [probe.steps for probe in found if probe.low > -margin]
    surely_bad = [probe.steps for probe in found if probe.high < -margin]
    return DelayLimit(
        steps=good,
        low=min(good, max(surely_good, default=0)),
        high=max(good, min(surely_bad) - 1) if surely_bad else None,
        probes=found,
        episodes=n + sum(probe.counts.n for probe in found),
        warnings=tuple(_contradictions(found)),
    )


def _probe(ask: Ask, steps: int, n: int, size: int, margin: float) -> DelayProbe:
    asked = 0
    while True:
        asked = min(max(2 * asked, size), n)
        base, solved = ask(steps, asked)
        counts = PairCounts.of(base, solved)
        early_low, early_high = _bounds(counts, EARLY)
        if asked >= n or early_low > -margin or early_high < -margin:
            low, high = _bounds(counts, CONFIDENCE)
            return DelayProbe(steps, counts, low, high, np.asarray(solved, dtype=bool))


def _bounds(counts: PairCounts, confidence: float) -> tuple[float, float]:
    low, high = difference_bounds(counts.lost, counts.gained, counts.n, confidence)
    return float(low), float(high)


def _contradictions(probes: tuple[DelayProbe, ...]) -> list[str]:
    """Pairs of delays of which the longer one solves surely more."""
    said = []
    for short, long in combinations(probes, 2):
        n = min(len(short.solved), len(long.solved))
        counts = PairCounts.of(short.solved[:n], long.solved[:n])
        if float(mcnemar_exact(counts.lost, counts.gained, "rise")) < CONTRADICTION:
            said.append(
                f"Success is not monotone in delay: {long.steps} steps solve {counts.gained} episodes that "
                f"{short.steps} steps do not, and lose {counts.lost} (of {n}). The answer holds for the delays that "
                "were probed."
            )
    return said
