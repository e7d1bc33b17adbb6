"""Paired comparison of success: the same episodes, run with two checkpoints.

Only discordant pairs carry information about the difference, and they are few when two checkpoints are alike: tests
are exact, and the interval of the difference is corrected so that each tail holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.intervals import Floats, Interval
from harness.analysis.laws import binomial_cdf, binomial_sf, normal_isf

Alternative = Literal["drop", "rise", "two-sided"]


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Outcomes of pairs of episodes (base, candidate)."""

    both: int
    """Both succeeded."""
    lost: int
    """Base succeeded, candidate failed."""
    gained: int
    """Base failed, candidate succeeded."""
    neither: int
    """Both failed."""

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def discordant(self) -> int:
        """Pairs whose outcomes differ (flips)."""
        return self.lost + self.gained

    @property
    def difference(self) -> float:
        """Success rate of the candidate minus that of the base; NaN without pairs."""
        return (self.gained - self.lost) / self.n if self.n else float("nan")

    @property
    def discordance(self) -> float:
        """Share of discordant pairs; NaN without pairs."""
        return self.discordant / self.n if self.n else float("nan")

    @classmethod
    def of(cls, base: ArrayLike, candidate: ArrayLike) -> PairCounts:
        """Count pairs from two boolean arrays of shape (n,), aligned by episode."""
        old, new = np.asarray(base, dtype=bool), np.asarray(candidate, dtype=bool)
        return cls(
            both=int((old & new).sum()),
            lost=int((old & ~new).sum()),
            gained=int((~old & new).sum()),
            neither=int((~old & ~new).sum()),
        )


def mcnemar_exact(lost: ArrayLike, gained: ArrayLike, alternative: Alternative = "two-sided") -> Floats:
    """P values of the exact McNemar test: a sign test on the discordant pairs.

    Args:
        lost: Pairs that only the base solved, any shape.
        gained: Pairs that only the candidate solved, same shape.
        alternative: "drop" (candidate worse), "rise" (candidate better) or "two-sided".

    Returns:
        P values; 1 where no pair is discordant. Never above their nominal error rate, at any number of pairs.

    Source: McNemar, Psychometrika 12 (1947); exact form as in `statsmodels.stats.contingency_tables.mcnemar`.
    """
    losses, gains = np.asarray(lost), np.asarray(gained)
    total = losses + gains
    if alternative == "drop":
        p = binomial_sf(losses - 1, total, 0.5)
    elif alternative == "rise":
        p = binomial_sf(gains - 1, total, 0.5)
    else:
        p = 2 * binomial_cdf(np.minimum(losses, gains), total, 0.5)
    return np.minimum(np.asarray(p, dtype=np.float64), 1.0)


def difference_bounds(
    lost: ArrayLike, gained: ArrayLike, n: ArrayLike, confidence: float = 0.95, *, correction: float = 1.0
) -> tuple[Floats, Floats]:
    """Intervals of the difference of paired success rates (candidate minus base): Tango's score interval, corrected.

    Tango's interval inverts the score test of H0: difference = d; at d = 0 that is McNemar's test. Its two-sided
    coverage is good, but a single tail errs up to twice as often as stated where losses are rare and gains rarer
    (9.7 % for a nominal 5 % tail at 100 pairs), which is where a gate works. With Edwards' correction of one episode
    each tail holds; `tests/benchmarks/bench_gate.py` prints both.

    Args:
        lost: Pairs that only the base solved, any shape.
        gained: Pairs that only the candidate solved.
        n: Number of pairs; 0 gives [-1, 1].
        confidence: Two-sided level.
        correction: Episodes subtracted from the distance before it is tested: 1 (Edwards), or 0 for Tango's own.

    Returns:
        Lower and upper bounds, of the broadcast shape.

    Source: Tango, Statistics in Medicine 17 (1998) 891-908; Edwards, Psychometrika 13 (1948).
    """
    losses, gains, total = np.broadcast_arrays(
        np.asarray(lost, dtype=float), np.asarray(gained, dtype=float), np.asarray(n, dtype=float)
    )
    z = float(normal_isf((1 - confidence) / 2))
    low = _score_bound(losses, gains, total, z, correction)
    return low, -_score_bound(gains, losses, total, z, correction)


def difference_interval(counts: PairCounts, confidence: float = 0.95) -> Interval:
    """Interval of the difference of paired success rates; see `difference_bounds`."""
    low, high = difference_bounds(counts.lost, counts.gained, counts.n, confidence)
    return Interval(float(low), float(high))


def newcombe_bounds(
    both: ArrayLike, lost: ArrayLike, gained: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Newcombe's square-and-add intervals of a paired difference, for comparison with other tools.

    Not used for verdicts: a single tail errs up to three times as often as stated where rates are strongly correlated.

    Args:
        both: Pairs that both solved, any shape.
        lost: Pairs that only the base solved.
        gained: Pairs that only the candidate solved.
        n: Number of pairs, at least 1.
        confidence: Two-sided level.

    Source: Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10.
    """
    a, x, g, total = (np.asarray(value, dtype=float) for value in np.broadcast_arrays(both, lost, gained, n))
    z2 = float(normal_isf((1 - confidence) / 2)) ** 2

    def wilson(k: Floats) -> tuple[Floats, Floats, Floats]:
        half = np.sqrt(z2 * (k * (total - k) / total + z2 / 4))
        return k / total, (k + z2 / 2 - half) / (total + z2), (k + z2 / 2 + half) / (total + z2)

    base, new = a + x, a + g
    (p1, low1, high1), (p2, low2, high2) = wilson(new), wilson(base)
    cross = a * (total - a - x - g) - x * g
    cross = np.where(cross > 0, np.maximum(cross - total / 2, 0.0), cross)
    spread = base * (total - base) * new * (total - new)
    phi = np.where(spread > 0, cross / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)
    down = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    up = (p2 - low2) ** 2 - 2 * phi * (p2 - low2) * (high1 - p1) + (high1 - p1) ** 2
    return p1 - p2 - np.sqrt(np.maximum(down, 0.0)), p1 - p2 + np.sqrt(np.maximum(up, 0.0))


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Holm's adjusted p values: rejecting those at or below alpha keeps the family-wise error rate at alpha.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979); equals `statsmodels` multipletests(method="holm").
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def _score_bound(lost: Floats, gained: Floats, n: Floats, z: float, correction: float) -> Floats:
    """Largest difference that the (corrected) score test rejects from below, by bisection between -1 and the estimate.

    The constrained maximum-likelihood rate of losses is the root of a quadratic (Tango, equation 3).
    """
    pairs = np.maximum(n, 1.0)
    inside = (gained - lost) / pairs
    outside = np.full_like(inside, -1.0)
    for _ in range(50):
        delta = (inside + outside) / 2
        # `lost` plays the part of the smaller rate: q = P(lost), so that P(gained) = q + delta.
        b = -gained - lost + (2 * pairs - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        q = (np.sqrt(np.maximum(b * b - 8 * pairs * c, 0.0)) - b) / (4 * pairs)
        sd = np.sqrt(np.maximum(pairs * (2 * q + delta * (1 - delta)), 0.0))
        kept = gained - lost - pairs * delta - correction <= z * sd + 1e-12
        inside = np.where(kept, delta, inside)
        outside = np.where(kept, outside, delta)
    return np.where(n > 0, outside, -1.0)
