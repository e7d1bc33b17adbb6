"""Group-sequential tests of a paired difference: a few looks, planned before the run, and alpha spent over them.

Two questions, each with its own error:

- **Is there a drop?** Given which pairs flipped, under "no drop" each flip is lost or gained like a fair coin, so the
  number of losses is a walk of fair steps whose law is known exactly. At each look the boundary is the smallest number
  of losses that spends no more than what the plan allows by then. The error holds exactly, at any rate of flips.
- **Is a drop of the margin excluded?** Each look is an exact unconditional test (`margin`) at a level of its own; the
  levels come from the joint normal law of the looks, so that together they spend alpha. The error of the whole is
  computed by `tests/benchmarks/bench_gate.py`: discrete tests spend less than they may.

For a drop alpha is spent in proportion to the planned pairs that are done: after a third of the plan a third is spent.
For the margin it is spent later, by the power `PATIENCE` of that share: at many flips a PASS needs the whole plan, and
what early looks spend is missing there.

Sources: Lan and DeMets, Biometrika 70 (1983); Jennison and Turnbull, Group Sequential Methods (2000), chapters 7, 12
and 19.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import stats
from scipy.signal import fftconvolve

from harness.analysis.intervals import Floats
from harness.analysis.paired.statistics import PairCounts

STEP = 0.01
"""Width of the grid on which the joint law of the looks is integrated, in standard deviations of the last look."""

PATIENCE = 2.0
"""Power of the share of the plan by which a margin spends its error. At 2,000 pairs and 30 % flips, nothing changed,
1 / 1.5 / 2 PASS 6.6 / 4.1 / 2.6 points less often than a fixed design, after 66 / 68 / 70 % of the pairs."""


def spent(alpha: float, done: float, planned: float, power: float = 1.0) -> float:
    """Error that may have been spent once so many of the planned pairs are done: a power of their share."""
    return float(alpha * min(done / planned, 1.0) ** power) if planned else alpha


@lru_cache(maxsize=256)
def look_levels(shares: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Level at which each look may test, so that all looks together err with probability alpha.

    Args:
        shares: Share of the planned pairs that is done at each look, rising, the last at most 1.
        alpha: Error of all looks together.

    Returns:
        One level per look: of a test whose statistics are jointly normal with independent increments. By a look the
        share to the power `PATIENCE` of alpha is spent.

    Raises:
        ValueError: Shares do not rise, or leave (0, 1].

    Source: Armitage, McPherson and Rowe, JRSS A 132 (1969): the recursion over looks.
    """
    if any(later <= earlier for earlier, later in zip((0.0, *shares), shares, strict=False)) or shares[-1] > 1 + 1e-9:
        raise ValueError(f"shares of the plan have to rise from above 0 to at most 1, not {shares}")
    grid = np.arange(-6.0, 6.0 + STEP / 2, STEP)
    density: Floats | None = None
    levels, done = [], 0.0
    for share, before in zip(shares, (0.0, *shares), strict=False):
        if density is None:
            arrived: Floats = stats.norm.pdf(grid, scale=np.sqrt(share))
        else:
            width = np.sqrt(share - before)
            kernel = stats.norm.pdf(np.arange(-(grid.size - 1), grid.size) * STEP, scale=width)
            arrived = _smooth(density, kernel)
        beyond = np.append(np.cumsum(arrived[::-1])[::-1] * STEP - arrived * STEP / 2, 0.0)
        allowed = spent(alpha, share, 1.0, PATIENCE) - done
        line = float(np.interp(-allowed, -beyond[:-1], grid))
        levels.append(float(stats.norm.sf(line / np.sqrt(share))))
        done += allowed
        density = np.where(grid <= line, arrived, 0.0)
    return tuple(levels)


def _smooth(density: Floats, kernel: Floats) -> Floats:
    n = density.size
    smoothed: Floats = np.maximum(fftconvolve(density, kernel)[n - 1 : 2 * n - 1], 0.0) * STEP
    return smoothed


@lru_cache(maxsize=4096)
def _fair_coins(n: int) -> Floats:
    """Probabilities of 0 … n heads."""
    law: Floats = stats.binom.pmf(np.arange(n + 1), n, 0.5)
    law.flags.writeable = False
    return law


class SpendingWalk:
    """A walk of fair steps that may cross a boundary at each look; alpha is spent over the planned pairs."""

    def __init__(self, alpha: float, planned: int) -> None:
        """Begin before the first look.

        Args:
            alpha: Error of all looks together.
            planned: Pairs that the whole plan has.
        """
        self.alpha, self.planned = alpha, planned
        self.spent = 0.0
        """Probability, given the steps' sizes, that a look so far would have crossed without any drop."""
        self._law: Floats = np.ones(1)
        """Probability of each distance, of walks that have not crossed."""

    def _cross(self, pairs: int) -> int | None:
        """The least distance that crosses at a look after `pairs` pairs, whose probability is spent; None for none."""
        tail = np.cumsum(self._law[::-1])[::-1]
        allowed = spent(self.alpha, pairs, self.planned) - self.spent
        boundary = int(np.count_nonzero(tail > allowed + 1e-15))
        if boundary >= tail.size:
            return None
        self.spent += float(tail[boundary])
        self._law = self._law[:boundary] if boundary else np.zeros(1)
        return boundary


class FairWalk(SpendingWalk):
    """Boundary of the number of losses at each look, given the flips: exact, whatever the rate of flips."""

    def __init__(self, alpha: float, planned: int) -> None:
        """Begin before the first look, without a flip; see `SpendingWalk`."""
        super().__init__(alpha, planned)
        self._flips = 0

    def look(self, pairs: int, flips: int) -> int | None:
        """Boundary of the next look.

        Args:
            pairs: Pairs so far.
            flips: Discordant pairs so far, not fewer than at the last look.

        Returns:
            The least number of losses among the flips that shows a drop; None when none would.
        """
        new = flips - self._flips
        self._flips = flips
        self._law = np.asarray(np.convolve(self._law, _fair_coins(new)), dtype=np.float64)
        return self._cross(pairs)


def chance_to_exclude(
    counts: PairCounts, planned: int, margin: float, level: float, difference: float
) -> float | Floats:
    """Probability that the last look will exclude a drop of the margin, if the rest of the plan goes as supposed.

    Args:
        counts: Pairs so far; arrays inside give an array.
        planned: Pairs that the whole plan has.
        margin: The drop.
        level: Level of the last look.
        difference: Supposed difference of rates in the pairs to come.

    Returns:
        A normal approximation. It decides when to stop asking, never what the answer is.
    """
    flips = _flip_rate(counts)
    spread = np.sqrt(planned * np.maximum(flips, margin) * (1 - margin))
    chance: float | Floats = _chance_above(
        counts, planned, stats.norm.isf(level) * spread - planned * margin, flips, difference
    )
    return chance


def chance_to_show_drop(counts: PairCounts, planned: int, level: float, difference: float) -> float | Floats:
    """Probability that the last look will show a drop; see `chance_to_exclude`."""
    flips = _flip_rate(counts)
    line = -stats.norm.isf(level) * np.sqrt(planned * flips)
    chance: float | Floats = 1.0 - _chance_above(counts, planned, line, flips, difference)
    return chance


def _flip_rate(counts: PairCounts) -> Any:
    return (counts.discordant + 0.5) / (counts.n + 1)


def _chance_above(counts: PairCounts, planned: int, line: Any, flips: Any, difference: float) -> Any:
    rest = np.maximum(planned - counts.n, 1e-9)
    missing = line - (counts.gained - counts.lost)
    spread = np.sqrt(rest * np.maximum(flips - difference**2, 1e-9))
    return stats.norm.sf((missing - rest * difference) / spread)


def walk_boundaries(looks: Sequence[tuple[int, int]], alpha: float, planned: int) -> list[int | None]:
    """Boundaries of several looks, each given as (pairs, flips) so far; see `FairWalk`."""
    walk = FairWalk(alpha, planned)
    return [walk.look(pairs, flips) for pairs, flips in looks]
