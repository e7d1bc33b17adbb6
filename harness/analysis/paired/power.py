"""How small a drop a paired comparison can show, and how many episodes a wanted one needs."""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.analysis.laws import binomial_isf, binomial_pmf, binomial_ppf, binomial_sf

MAX_PAIRS = 10_000_000
"""Beyond this many episodes no number is searched for."""


def drop_power(n: int, drop: float, discordance: float, alpha: float = 0.05, *, sides: Literal[1, 2] = 1) -> float:
    """Power of the exact McNemar test: the probability that a real drop is shown.

    Args:
        n: Number of pairs.
        drop: Success rate of the base minus that of the candidate, 0 … discordance.
        discordance: Probability that a pair is discordant.
        alpha: Error rate of the test.
        sides: 1 tests for a drop, 2 for any change.

    Raises:
        ValueError: A drop that no such discordance can produce.

    Source: Connor, Biometrics 43 (1987): the number of discordant pairs is binomial, and given it the test is exact.
    """
    if not 0 <= drop <= discordance <= 1:
        raise ValueError(f"a drop of {drop} needs a discordance of at least {drop} and at most 1, not {discordance}")
    if n <= 0 or discordance == 0:
        return 0.0
    counts = np.arange(int(binomial_ppf(1e-9, n, discordance)), int(binomial_isf(1e-9, n, discordance)) + 1)
    theta = (discordance + drop) / (2 * discordance)
    # Smallest number of losses that rejects: P(Binomial(m, 1/2) >= losses) <= alpha / sides.
    critical = binomial_isf(alpha / sides, counts, 0.5) + 1
    return float((binomial_pmf(counts, n, discordance) * binomial_sf(critical - 1, counts, theta)).sum())


def minimum_detectable_drop(
    n: int, discordance: float, alpha: float = 0.05, power: float = 0.8, *, sides: Literal[1, 2] = 1
) -> float | None:
    """Smallest real drop that a test on n pairs shows with the wanted power.

    A drop cannot exceed the discordance that causes it: where the observed discordance is too small to be shown at all,
    the discordance is taken to be the drop itself (every flip a loss).

    Returns:
        The drop, to 0.01 points; None when even the loss of every episode could not be shown.
    """
    low, high = 0.0, 1.0

    def shown(drop: float) -> bool:
        return drop_power(n, drop, max(discordance, drop), alpha, sides=sides) >= power

    if not shown(1.0):
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def pairs_needed(
    drop: float, discordance: float, alpha: float = 0.05, power: float = 0.8, *, sides: Literal[1, 2] = 1
) -> int | None:
    """Least number of pairs with which a real drop is shown with the wanted power.

    The power of an exact test saws with n; the number is one from which the next 32 keep the power too.

    Returns:
        The number; None beyond `MAX_PAIRS`.
    """
    spread = max(discordance, drop)
    if drop <= 0:
        return None

    def holds(n: int) -> bool:
        return all(drop_power(m, drop, spread, alpha, sides=sides) >= power for m in (n, n + 8, n + 16, n + 32))

    high = 8
    while not holds(high):
        high *= 2
        if high > MAX_PAIRS:
            return None
    low = high // 2
    while high - low > max(1, high // 500):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
