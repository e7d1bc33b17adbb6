"""Probability laws of the analyses, over `scipy.special`: `scipy.stats` takes half a second to import.

Names and meanings are those of `scipy.stats` (`cdf`, `sf`: P(K <= k), P(K > k); `ppf`, `isf`: their inverses).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

if TYPE_CHECKING:
    from harness.analysis.intervals import Floats, Ints


def normal_sf(x: ArrayLike) -> Floats:
    """Upper tail of the standard normal law."""
    return np.asarray(special.ndtr(-np.asarray(x, dtype=float)), dtype=float)


def normal_isf(p: ArrayLike) -> Floats:
    """Where the upper tail of the standard normal law is p."""
    return np.asarray(-special.ndtri(p), dtype=float)


def t_sf(x: ArrayLike, freedom: ArrayLike) -> Floats:
    """Upper tail of Student's law; infinite degrees of freedom are the normal law."""
    return np.where(np.isinf(freedom), normal_sf(x), special.stdtr(_finite(freedom), -np.asarray(x, dtype=float)))


def t_isf(p: ArrayLike, freedom: ArrayLike) -> Floats:
    """Where the upper tail of Student's law is p; infinite degrees of freedom are the normal law."""
    return np.where(np.isinf(freedom), normal_isf(p), -special.stdtrit(_finite(freedom), p))


def _finite(freedom: ArrayLike) -> Floats:
    return np.where(np.isinf(freedom), 1.0, freedom)


def beta_ppf(p: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Where the lower tail of the beta law is p."""
    return np.asarray(special.betaincinv(a, b, p), dtype=float)


def beta_isf(p: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Where the upper tail of the beta law is p."""
    return np.asarray(special.betainccinv(a, b, p), dtype=float)


def binomial_cdf(k: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Floats:
    """P(K <= k) of n trials."""
    counts, trials = np.asarray(k, dtype=float), np.asarray(n, dtype=np.int64)
    inside = special.bdtr(np.clip(counts, 0, trials), trials, rate)
    return np.where(counts < 0, 0.0, np.where(counts >= trials, 1.0, inside))


def binomial_sf(k: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Floats:
    """P(K > k) of n trials."""
    counts, trials = np.asarray(k, dtype=float), np.asarray(n, dtype=np.int64)
    inside = special.bdtrc(np.clip(counts, 0, trials), trials, rate)
    return np.where(counts < 0, 1.0, np.where(counts >= trials, 0.0, inside))


def binomial_pmf(k: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Floats:
    """P(K = k) of n trials, 0 <= k <= n."""
    counts, trials = np.asarray(k, dtype=float), np.asarray(n, dtype=float)
    ways = special.gammaln(trials + 1) - special.gammaln(counts + 1) - special.gammaln(trials - counts + 1)
    logs = ways + special.xlogy(counts, rate) + special.xlog1py(trials - counts, -np.asarray(rate, dtype=float))
    return np.asarray(np.exp(logs), dtype=float)


def binomial_ppf(p: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Ints:
    """Least k with P(K <= k) >= p, for p and the rate in (0, 1)."""
    trials, tail = np.asarray(n, dtype=np.int64), np.asarray(p, dtype=float)
    near = np.nan_to_num(np.ceil(special.bdtrik(tail, np.maximum(trials, 1), rate)))
    k = np.clip(near, 0, trials) + 1
    # The inverse is exact to rounding: the step is at it or beside it.
    for _ in range(3):
        k = np.where((k > 0) & (binomial_cdf(k - 1, trials, rate) >= tail), k - 1, k)
    return np.asarray(k, dtype=np.int64)


def binomial_isf(p: ArrayLike, n: ArrayLike, rate: ArrayLike) -> Ints:
    """Least k with P(K > k) <= p, for p and the rate in (0, 1)."""
    trials, tail = np.asarray(n, dtype=np.int64), np.asarray(p, dtype=float)
    near = np.nan_to_num(np.ceil(special.bdtrik(1 - tail, np.maximum(trials, 1), rate)))
    k = np.clip(near, 0, trials) + 1
    for _ in range(3):
        k = np.where((k > 0) & (binomial_sf(k - 1, trials, rate) <= tail), k - 1, k)
    return np.asarray(k, dtype=np.int64)
