"""Exact test of a margin: is the candidate better than "so much worse"?

At a margin the flips alone do not suffice: how many there are says something too (no flip in 99 pairs excludes a drop
of 3 points). The test is unconditional: pairs are ordered by the score statistic, and the probability of an order at
least as extreme is taken at the worst rate of flips.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.intervals import Floats
from harness.analysis.laws import binomial_cdf, binomial_pmf, normal_sf
from harness.analysis.paired.statistics import PairCounts, difference_bounds

EXACT_PAIRS = 5_000
"""Beyond so many pairs the score test with Edwards' correction, whose tail holds, takes over."""

NUISANCE = 24
"""Rates of flips at which the probability is computed, spaced geometrically from the smallest possible one."""


def score_statistic(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, bound: float) -> Floats:
    """Tango's score statistic of H0 "gained rate - lost rate = bound"; large values speak for more.

    Args:
        lost: Pairs that only the base solved, any shape.
        gained: Pairs that only the candidate solved.
        n: Number of pairs, above 0.
        bound: The difference under test, above -1 and below 1.

    Source: Tango, Statistics in Medicine 17 (1998), equations 2 and 3.
    """
    losses, gains, total = (np.asarray(value, dtype=float) for value in np.broadcast_arrays(lost, gained, n))
    b = -gains - losses + (2 * total - gains + losses) * bound
    c = -losses * bound * (1 - bound)
    q = (np.sqrt(np.maximum(b * b - 8 * total * c, 0.0)) - b) / (4 * total)
    variance = np.maximum(total * (2 * q + bound * (1 - bound)), 1e-300)
    statistic: Floats = (gains - losses - total * bound) / np.sqrt(variance)
    return statistic


def margin_size(critical: float, n: int, bound: float) -> float:
    """Largest probability, over the rates of flips, that the score statistic of n pairs reaches a critical value.

    Args:
        critical: The critical value.
        n: Number of pairs, above 0.
        bound: The true difference "gained rate - lost rate".
    """
    gains = np.arange(n + 1)
    most = _most_losses(gains, critical, n, bound)
    least, largest = max(0.0, -bound), (1 - bound) / 2
    q_lost = np.append(least, least + (largest - least) * np.geomspace(1e-4, 1, NUISANCE))[:, None]
    q_gained = q_lost + bound
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(q_gained < 1, np.minimum(q_lost / np.maximum(1 - q_gained, 1e-300), 1.0), 0.0)
    reached = binomial_cdf(most, n - gains, share)
    return float(np.max(np.sum(binomial_pmf(gains, n, np.clip(q_gained, 0, 1)) * reached, axis=1)))


@lru_cache(maxsize=65536)
def margin_p(counts: PairCounts, bound: float) -> float:
    """P value of H0 "gained rate - lost rate <= bound": small when the candidate is better than that.

    Args:
        counts: The pairs.
        bound: The difference under test; `-margin` asks whether a drop of the margin is excluded.

    Returns:
        The p value; 1 without pairs. Never too small, whatever the rate of flips (up to the grid of `NUISANCE`).

    Source: Suissa and Shuster, Biometrics 47 (1991): the exact unconditional test; ordered by Tango's statistic.
    """
    if counts.n == 0 or bound <= -1:
        return 1.0 if counts.n == 0 else 0.0
    if counts.n > EXACT_PAIRS:
        corrected = counts.gained - counts.lost - counts.n * bound - 1
        raw = counts.gained - counts.lost - counts.n * bound
        z = float(score_statistic(counts.lost, counts.gained, counts.n, bound))
        return float(normal_sf(z * corrected / raw)) if raw > 0 else float(normal_sf(z))
    critical = float(score_statistic(counts.lost, counts.gained, counts.n, bound))
    return margin_size(critical, counts.n, bound)


def margin_critical(n: int, bound: float, alpha: float) -> float:
    """Smallest score statistic of n pairs that rejects "gained rate - lost rate <= bound" at alpha.

    For many evaluations at one n; `margin_p` says the same of single counts.
    """
    low, high = 0.0, 12.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if margin_size(middle, n, bound) <= alpha else (middle, high)
    return high


def exact_lower_bound(counts: PairCounts, alpha: float) -> float:
    """One-sided lower bound of the difference at 1 - alpha: the test of `margin_p`, inverted."""
    if counts.n == 0 or counts.gained - counts.lost == -counts.n:
        return -1.0
    start = float(difference_bounds(counts.lost, counts.gained, counts.n, 1 - 2 * alpha)[0])
    if counts.n > EXACT_PAIRS:
        return start

    def gap(bound: float) -> float:
        return margin_p(counts, bound) - alpha

    low, high = max(start - 2 / counts.n, -1 + 1e-9), counts.difference - 1e-9
    while gap(low) > 0:
        if low <= -1 + 1e-9:
            return -1.0
        low = max(2 * low - high, -1 + 1e-9)
    if gap(high) < 0:
        return high
    from scipy.optimize import brentq

    # The inverted test steps: stay on the rejected side.
    return float(brentq(gap, low, high, xtol=1e-5)) - 1e-5


def _most_losses(gains: Any, critical: float, n: int, bound: float) -> Any:
    """For each number of gains the largest number of losses whose statistic still reaches the critical value; or -1."""
    low, high = np.full(gains.shape, -1), n - gains + 1
    while np.any(high - low > 1):
        middle = np.maximum((low + high) // 2, 0)
        reaches = score_statistic(middle, gains, n, bound) >= critical - 1e-9
        open_ = high - low > 1
        low, high = np.where(open_ & reaches, middle, low), np.where(open_ & ~reaches, middle, high)
    return low
