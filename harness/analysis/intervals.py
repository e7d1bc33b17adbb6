"""Confidence intervals that hold: of a success rate, and of a quantile.

Clopper-Pearson is the interval of rates, because it is the one that keeps its promise everywhere. Exact coverage of
nominal 95 % intervals (the sum of the binomial probabilities of the counts whose interval contains p), worst over
n = 20, 100, 500, 2000 and p = 0.5, 0.9, 0.97, 0.99: Wilson 92.1 % (n = 100, p = 0.99), Jeffreys 92.1 %,
Clopper-Pearson 95.1 %; it is 3 to 14 % wider than Wilson. `tests/benchmarks/bench_gate.py` prints the table.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.analysis.laws import beta_isf, beta_ppf, binomial_isf, binomial_pmf, binomial_ppf, t_isf

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether a value lies inside, bounds included."""
        return self.low <= value <= self.high


def clopper_pearson(successes: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Clopper-Pearson intervals of success rates: coverage is at least `confidence` for every n and p.

    Args:
        successes: Counts of successes, any shape.
        n: Numbers of trials, broadcast against `successes`; n = 0 gives [0, 1].
        confidence: Two-sided level; each tail errs with probability at most (1 - confidence) / 2.

    Returns:
        Lower and upper bounds, of the broadcast shape.

    Raises:
        ValueError: A count below 0 or above n, or a level outside (0, 1).

    Source: Clopper and Pearson, Biometrika 26 (1934).
    """
    k, total = np.broadcast_arrays(np.asarray(successes, dtype=float), np.asarray(n, dtype=float))
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it has to lie between 0 and 1")
    if np.any(k < 0) or np.any(k > total):
        raise ValueError("a count of successes lies outside 0 … n")
    tail = (1 - confidence) / 2
    # Where a shape parameter is 0 the bound is known (0 or 1) and the placeholder 1 keeps the quantile finite.
    low = np.where(k > 0, beta_ppf(tail, np.where(k > 0, k, 1), total - k + 1), 0.0)
    high = np.where(k < total, beta_isf(tail, k + 1, np.where(k < total, total - k, 1)), 1.0)
    return low, high


def rate_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Interval of one success rate; see `clopper_pearson`."""
    low, high = clopper_pearson(successes, n, confidence)
    return Interval(float(low), float(high))


def clustered_rate_interval(successes: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of a success rate over clusters like these, e.g. new init states of which each is tried several times.

    Clopper-Pearson at the number of independent trials that would be as uncertain as these clusters are, which the
    spread of their rates tells, made smaller for the few clusters that tell it. Near 0 and 1 all clusters are alike by
    chance: a quarter of a cluster of the other outcome is added before the spread is taken.

    Args:
        successes: Successes of each cluster, shape (clusters,).
        n: Trials of each cluster, above 0, same shape.
        confidence: Two-sided level.

    Returns:
        The interval; [0, 1] for fewer than two clusters.

    Source: Korn and Graubard, Survey Methodology 24 (1998) 193-201; the quarter is this project's, its coverage is
    measured by `tests/benchmarks/bench_gate.py`.
    """
    won, tried = np.asarray(successes, dtype=float), np.asarray(n, dtype=float)
    clusters, total = won.size, float(tried.sum())
    if clusters < 2:
        return Interval(0.0, 1.0)
    rate, size = float(won.sum()) / total, total / clusters
    weights = np.append(np.ones(clusters), 0.25)
    won, tried = np.append(won, 0.0 if rate >= 0.5 else size), np.append(tried, size)
    mass, count = float((weights * tried).sum()), float(weights.sum())
    mixed = float((weights * won).sum()) / mass
    spread = count / (count - 1) * float((weights * (won - mixed * tried) ** 2).sum()) / mass**2
    inflation = max(1.0, spread * mass / (mixed * (1 - mixed)))
    tail = (1 - confidence) / 2
    fewer = (float(t_isf(tail, total - 1)) / float(t_isf(tail, clusters - 1))) ** 2
    effective = float(min(total, fewer * total / inflation))
    low, high = clopper_pearson(rate * effective, effective, confidence)
    return Interval(float(low), float(high))


def exact_coverage(low: ArrayLike, high: ArrayLike, p: float) -> float:
    """Probability that an interval of a binomial rate contains the truth.

    Args:
        low: Lower bounds for 0, 1, …, n successes, shape (n + 1,).
        high: Upper bounds, same shape.
        p: The true rate.
    """
    lows, highs = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    counts = np.arange(lows.size)
    # Bounds that equal p up to rounding contain it: at p = 1 the upper bound is exactly 1.
    inside = (lows <= p + 1e-12) & (highs >= p - 1e-12)
    return float(binomial_pmf(counts, lows.size - 1, p)[inside].sum())


def quantile_interval(samples: ArrayLike, quantile: float, confidence: float = 0.95) -> Interval:
    """Distribution-free interval of a quantile of independent samples: two order statistics.

    Args:
        samples: Raw samples, any order.
        quantile: In (0, 1), e.g. 0.99.
        confidence: Two-sided level; each tail errs with probability at most (1 - confidence) / 2.

    Returns:
        The interval; a side for which there are too few samples is infinite (p99 needs 368 for a 95 % upper bound).

    Source: David and Nagaraja, Order Statistics (2003), section 7.1.
    """
    ordered = np.sort(np.asarray(samples, dtype=float))
    low, high = order_statistic_ranks(ordered.size, quantile, confidence)
    return Interval(
        float(ordered[low - 1]) if low >= 1 else -np.inf,
        float(ordered[high - 1]) if high <= ordered.size else np.inf,
    )


@lru_cache(maxsize=4096)
def order_statistic_ranks(n: int, quantile: float, confidence: float) -> tuple[int, int]:
    """Ranks (from 1) of the order statistics that bound a quantile; 0 and n + 1 mean that there is no bound.

    With K ~ Binomial(n, quantile) samples below the quantile, the r-th smallest is above it with probability
    P(K < r), and the s-th is below it with P(K >= s).
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}; it has to lie between 0 and 1")
    tail = (1 - confidence) / 2
    return int(binomial_ppf(tail, n, quantile)), int(binomial_isf(tail, n, quantile)) + 1
