"""Anytime-valid evidence about a paired difference: look after every episode, stop when it is enough.

The e-process bets on pairs. For H0 "candidate minus base <= d" a bettor with capital 1 stakes a fraction f of what can
be lost, so that a pair with outcome x = +1 (gained), -1 (lost) or 0 multiplies the capital by 1 + f (x - d) / (1 + d).
Under H0 every factor has mean at most 1, so the capital reaches 1 / alpha with probability at most alpha, however often
one looks (Ville's inequality). The capital is averaged over a few fractions: the mixture depends only on the counts of
gained, lost and concordant pairs, so no bookkeeping of bets is needed.

The order of pairs must not depend on their outcomes. Failures take longer than successes, so the pairs that have
*finished* at some moment are a biased sample; evidence may only be taken over a prefix of an order that was fixed
beforehand, up to the first unfinished pair.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86 (2024); Ramdas,
Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38 (2023).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.intervals import Floats
from harness.analysis.paired.statistics import PairCounts

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.65, 0.9)
"""Fractions of the largest stake. The best one is about the margin over the rate of flips: small ones win where many
pairs flip, large ones where few do; with a stake that is too large the evidence falls for ever."""


def log_evidence_above(gained: ArrayLike, lost: ArrayLike, n: ArrayLike, bound: ArrayLike) -> Floats:
    """Natural logarithm of the evidence against H0 "candidate minus base <= bound".

    Args:
        gained: Pairs that only the candidate solved, any shape.
        lost: Pairs that only the base solved.
        n: All pairs.
        bound: The difference under test, above -1 and below 1.

    Returns:
        Log of the mixture's capital, of the broadcast shape. At or above log(1 / alpha) H0 is rejected at alpha, at any
        stopping time.
    """
    gains, losses, total, d = (np.asarray(value, dtype=float) for value in np.broadcast_arrays(gained, lost, n, bound))
    stakes = np.array(FRACTIONS)
    shape = (1,) * gains.ndim + (stakes.size,)
    f = stakes.reshape(shape)
    scale = (f / (1 + d[..., None])).astype(float)
    logs = (
        gains[..., None] * np.log1p(scale * (1 - d[..., None]))
        + losses[..., None] * np.log1p(scale * (-1 - d[..., None]))
        + (total - gains - losses)[..., None] * np.log1p(-scale * d[..., None])
    )
    mixed: Floats = np.logaddexp.reduce(logs, axis=-1) - np.log(stakes.size)
    return mixed


def log_evidence_below(gained: ArrayLike, lost: ArrayLike, n: ArrayLike, bound: ArrayLike) -> Floats:
    """Natural logarithm of the evidence against H0 "candidate minus base >= bound"; see `log_evidence_above`."""
    return log_evidence_above(lost, gained, n, -np.asarray(bound, dtype=float))


def anytime_p(log_evidence: ArrayLike) -> Floats:
    """P values that hold at any stopping time: min(1, 1 / evidence). They may be used with Holm's correction."""
    p: Floats = np.exp(-np.maximum(np.asarray(log_evidence, dtype=np.float64), 0.0))
    return p


def lower_sequence_bound(counts: PairCounts, alpha: float) -> float:
    """One-sided lower bound of the paired difference that holds at every sample size at once."""
    return _lower_bound(counts.gained, counts.lost, counts.n, np.log(1 / alpha))


def _lower_bound(gained: int, lost: int, n: int, threshold: float) -> float:
    rejected, kept = -1.0, 1.0
    for _ in range(20):
        middle = (rejected + kept) / 2
        if float(log_evidence_above(gained, lost, n, middle)) >= threshold:
            rejected = middle
        else:
            kept = middle
    return rejected
