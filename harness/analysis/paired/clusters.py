"""Tests whose sampling unit is a cluster of pairs: the trials of one init state, or the episodes of one task.

A checkpoint may do better on one init state and worse on the next; then the trials of an init state are alike, and
taking them as independent makes false alarms. Here whole clusters are weighed, however alike their pairs are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.analysis.paired.margin import margin_p
from harness.analysis.paired.statistics import PairCounts


@dataclass(frozen=True, eq=False)
class Clusters:
    """Pairs summed up by cluster."""

    net: NDArray[np.int64]
    """Gained minus lost pairs of each cluster, shape (clusters,)."""
    sizes: NDArray[np.int64]
    """Pairs of each cluster, above 0, same shape."""

    @classmethod
    def of(cls, codes: ArrayLike, gained: ArrayLike, lost: ArrayLike) -> Clusters:
        """Sum pairs up: the cluster of each pair, and whether it was gained or lost, all of shape (pairs,)."""
        number = np.unique(np.asarray(codes), return_inverse=True)[1].ravel()
        difference = np.asarray(gained, dtype=np.int64) - np.asarray(lost, dtype=np.int64)
        net = np.bincount(number, weights=difference).astype(np.int64)
        return cls(net, np.bincount(number).astype(np.int64))

    def mirrored(self) -> Clusters:
        """The same with base and candidate exchanged."""
        return Clusters(-self.net, self.sizes)

    def prolonged(self, n: int) -> Clusters:
        """As many clusters, alike: what there is at n evenly spaced places of it, in order of the net."""
        order = np.lexsort((self.sizes, self.net))
        places = order[((np.arange(n) + 0.5) * order.size / n).astype(np.int64)]
        return Clusters(self.net[places], self.sizes[places])


def sign_flip_p(net: ArrayLike) -> float:
    """P value of "clusters are as often better as worse, by as much": exact, by every flip of the clusters' signs.

    With one pair a cluster this is the exact McNemar test.

    Args:
        net: Whole-numbered differences of the clusters; a large sum speaks against the hypothesis.

    Source: Fisher, The Design of Experiments (1935), section 21: the randomisation test of paired differences.
    """
    steps = np.abs(np.asarray(net, dtype=np.int64))
    steps = steps[steps > 0]
    law = np.ones(1)
    for step in steps:
        flipped = np.zeros(law.size + step)
        flipped[: law.size] += law / 2
        flipped[step:] += law / 2
        law = flipped
    # `law` is of the sum of the steps that point upwards.
    upward = (int(steps.sum()) + int(np.asarray(net).sum())) // 2
    return float(min(law[upward:].sum(), 1.0))


def cluster_drop_p(clusters: Clusters) -> float:
    """P value of "clusters like these lose no more than they gain": exact by sign flips, and against unseen gains.

    Sign flips alone take better and worse as equally large. Where a few clusters gain much and many lose a little, a
    sample often has the losses and none of the gains; so the losses have to be more than what clusters that gain every
    pair, and were not drawn, could make up for (`unseen_collapse_p`, mirrored).
    """
    return max(sign_flip_p(-clusters.net), unseen_collapse_p(clusters.mirrored(), 0.0))


def cluster_margin_p(clusters: Clusters, counts: PairCounts, bound: float) -> float:
    """P value of "gained rate - lost rate <= bound" over clusters like these: one-sided t over the clusters.

    Never below the p value that independent pairs would give, nor below that of clusters which collapse whole and were
    not drawn (`unseen_collapse_p`): with few flips the spread of the clusters is no guide.
    """
    exact = margin_p(counts, bound)
    shifted = clusters.net - bound * clusters.sizes
    if shifted.size < 2:
        return 1.0
    floor = max(exact, unseen_collapse_p(clusters, bound))
    spread = float(shifted.std(ddof=1))
    if spread == 0:
        return floor if shifted[0] > 0 else 1.0
    t = float(shifted.mean()) / (spread / np.sqrt(shifted.size))
    return max(floor, float(stats.t.sf(t, shifted.size - 1)))


def unseen_collapse_p(clusters: Clusters, bound: float) -> float:
    """P value of "gained rate - lost rate <= bound" if it is some clusters that lose every pair.

    The others gain what the clusters gained on average, and collapse is as frequent as the bound allows: the law by
    which so few losses are likeliest. Losses of several clusters add up to whole collapses; between two numbers of
    them the p value is interpolated on the log scale, as in Bentkus, Annals of Probability 32 (2004), 1650-1673.
    With k clusters, a bound of -m and no flip it is (1 - m)^k.
    """
    rates = clusters.net / clusters.sizes
    gained = float(np.maximum(rates, 0.0).mean())
    if gained <= bound:
        return 1.0
    collapsed = float(np.maximum(-rates, 0.0).sum())
    frequency = (gained - bound) / (gained + 1.0)
    low, share = int(collapsed), collapsed - int(collapsed)
    at, above = stats.binom.logcdf([low, low + 1], rates.size, frequency)
    return float(np.exp((1 - share) * at + share * above))
