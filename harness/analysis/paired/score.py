"""Paired differences of a bounded score, candidate minus base: is there a drop, and is a drop of the margin excluded?

- **A drop.** Under "nothing changed" base and candidate of a pair could be exchanged, so that each difference has
  either sign with probability 1/2, given its size. The mass of the losses is then a walk of fair steps whose law is
  known exactly: the sign-flip test, and with planned looks a group-sequential one, which spends alpha in proportion to
  the planned pairs that are done. Differences of 0 and 1 alone give McNemar's test and the walk of `group_sequential`.
  Where a candidate changes scores without changing their mean, signs are not fair, and the test holds by the central
  limit theorem and a guard against skewness instead.
- **The margin.** A bettor with capital 1 stakes on "more than the margin was kept"; the capital reaches 1 / alpha with
  probability at most alpha when it was not, whenever one looks and whatever the law of the scores (Ville). It is the
  e-process of `sequential`, for any bounded difference.

Sources: Waudby-Smith and Ramdas, JRSS B 86 (2024), betting for bounded means; Lan and DeMets, Biometrika 70 (1983);
arXiv 2603.13616, anytime-valid comparison of robot policies by partial credit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.signal import convolve

from harness.analysis.intervals import Floats, Interval, Ints
from harness.analysis.paired.group_sequential import SpendingWalk
from harness.analysis.paired.sequential import FRACTIONS

LATTICE = 240
"""Differences are weighed in units of 1 / 240: quarters of goals of tasks with up to six goals fall on them."""

_SLACK = 1.0
"""Log capital that a bettor who does not know the best stake is behind one who does, about."""


def on_lattice(differences: ArrayLike) -> Ints:
    """Differences in units of 1 / `LATTICE`, rounded; shape kept."""
    units: Ints = np.rint(np.asarray(differences, dtype=float) * LATTICE).astype(np.int64)
    return units


class ScoreWalk(SpendingWalk):
    """Boundary of the mass of losses at each look, given how much pairs differ: exact, whatever they do."""

    def look(self, pairs: int, sizes: Ints) -> int | None:
        """Boundary of the next look.

        Args:
            pairs: Pairs so far.
            sizes: Sizes of the differences that came since the last look, in units of the lattice, above 0.

        Returns:
            The least mass of losses that shows a drop, in units; None when none would.
        """
        self._law = _walked(self._law, sizes)
        return self._cross(pairs)


def _walked(law: Floats, sizes: Ints) -> Floats:
    """The law of a mass of losses after further fair steps of these sizes."""
    for size, times in zip(*np.unique(sizes, return_counts=True), strict=True):
        coins = np.zeros(int(size * times) + 1)
        coins[::size] = stats.binom.pmf(np.arange(times + 1), times, 0.5)
        law = np.maximum(convolve(law, coins), 0.0)
    return law


def shown_drop(looks: Sequence[Ints], sizes: Sequence[int], alpha: float) -> bool:
    """Whether any look so far has shown a drop, further beyond its boundary than `skew_guard` asks.

    Args:
        looks: Differences in units that came with each look, the first look's first.
        sizes: Pairs that the plan has by each of its looks, cumulated; the last is the whole plan.
        alpha: Error of all looks together.
    """
    everything = np.concatenate(looks)
    unit = int(np.gcd.reduce(np.abs(everything))) or 1
    walk, lost, done = ScoreWalk(alpha, sizes[-1]), 0, 0
    for new, pairs in zip(looks, sizes, strict=False):
        steps = new[new != 0] // unit
        line = walk.look(pairs, np.abs(steps))
        lost, done = lost + int(-steps[steps < 0].sum()), done + new.size
        if line is None or lost < line:
            continue
        # A loss moved from one side to the other counts twice in the net loss.
        beyond = 2 * (lost - line) * unit / LATTICE
        if beyond >= skew_guard(everything[:done] / LATTICE, line * unit / LATTICE):
            return True
    return False


def skew_guard(differences: Floats, line: float) -> float:
    """How far beyond its boundary a net loss has to be, in points of score, since nights may be skewed.

    Signs are fair when nothing changed. Of a candidate that trades many small losses for few large gains of the same
    mean they are not: on nights when few of the gains came, the losses show and the spread is small as well. To first
    order that error grows with the skewness; it is estimated as if two gains of a whole point more had been seen, since
    the first of them may be to come. Two, and a fifth more than theory asks, keep it below alpha: docs/results.md.

    Args:
        differences: So far, shape (n,), not all 0.
        line: Mass of losses at the boundary, in points of score.

    Source: Johnson, "Modified t tests and confidence intervals for asymmetrical populations", JASA 73 (1978).
    """
    squares, cubes = float((differences**2).sum()), float((differences**3).sum())
    z = (2 * line - float(np.abs(differences).sum())) / np.sqrt(squares)
    return float(max((cubes + 2) / (squares + 1), 0.0) * (2 * z**2 + 1) / 5)


def drop_p(differences: ArrayLike) -> float:
    """P value of "no drop" at a single look: the exact sign-flip test.

    Args:
        differences: Candidate minus base, shape (n,), in [-1, 1].
    """
    units = on_lattice(differences)
    steps = units[units != 0]
    if not steps.size:
        return 1.0
    steps = steps // int(np.gcd.reduce(np.abs(steps)))
    lost = int(-steps[steps < 0].sum())
    return float(min(_walked(np.ones(1), np.abs(steps))[lost:].sum(), 1.0))


def log_evidence(differences: ArrayLike, bound: float) -> float:
    """Natural logarithm of the evidence against "the mean difference is at most the bound"; see `sequential`.

    Args:
        differences: Candidate minus base, shape (n,), in [-1, 1].
        bound: The difference under test, above -1 and below 1.
    """
    values, times = np.unique(np.asarray(differences, dtype=float), return_counts=True)
    stakes = np.array(FRACTIONS)[:, None] / (1 + bound)
    logs = np.log1p(stakes * (values - bound)) @ times
    return float(np.logaddexp.reduce(logs) - np.log(len(FRACTIONS)))


def mean_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of the mean difference, by betting: it holds for every law and at every number of pairs at once."""
    found = np.asarray(differences, dtype=float)
    limit = np.log(2 / (1 - confidence))
    return Interval(_lower(found, limit), -_lower(-found, limit))


def _lower(differences: Floats, limit: float) -> float:
    rejected, kept = -1.0, 1.0
    for _ in range(20):
        middle = (rejected + kept) / 2
        if differences.size and log_evidence(differences, middle) >= limit:
            rejected = middle
        else:
            kept = middle
    return rejected


def chance_to_exclude(differences: Floats, planned: int, margin: float, alpha: float, rest: float) -> float:
    """Probability that the whole plan excludes a drop of the margin, if its rest differs by `rest` in the mean.

    A normal approximation. It decides when to stop asking, never what the answer is.

    Args:
        differences: So far, shape (n,).
        planned: Pairs of the whole plan.
        margin: The drop.
        alpha: Error of excluding it.
        rest: Supposed mean difference of the pairs to come.
    """
    spread = _spread(differences)
    line = np.sqrt(2 * planned * (np.log(1 / alpha) + _SLACK)) * spread - planned * margin
    return _chance_above(differences, planned, line, spread, rest)


def chance_to_show_drop(differences: Floats, planned: int, alpha: float, rest: float) -> float:
    """Probability that the whole plan shows a drop; see `chance_to_exclude`."""
    spread = _spread(differences)
    line = -stats.norm.isf(alpha) * np.sqrt(planned) * spread
    return 1.0 - _chance_above(differences, planned, line, spread, rest)


def _spread(differences: Floats) -> float:
    return float(np.sqrt(((differences**2).sum() + 0.25) / (differences.size + 1)))


def _chance_above(differences: Floats, planned: int, line: float, spread: float, rest: float) -> float:
    to_come = max(planned - differences.size, 1e-9)
    missing = line - differences.sum() - to_come * rest
    return float(stats.norm.sf(missing / (np.sqrt(to_come) * spread)))
