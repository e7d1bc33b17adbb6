"""Tests and intervals whose sampling unit is a cluster."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from harness.analysis.intervals import clopper_pearson, clustered_rate_interval
from harness.analysis.paired.clusters import Clusters, cluster_drop_p, cluster_margin_p, sign_flip_p
from harness.analysis.paired.margin import margin_p
from harness.analysis.paired.statistics import PairCounts, mcnemar_exact


@pytest.mark.parametrize("net", [[3, -1, 2, 0, 5], [-2, -2, -1], [4], [0, 0]])
def test_the_p_value_is_the_share_of_sign_flips_that_do_as_much(net: list[int]) -> None:
    sums = [sum(s * abs(d) for s, d in zip(signs, net, strict=True)) for signs in product((-1, 1), repeat=len(net))]
    assert sign_flip_p(net) == pytest.approx(np.mean([total >= sum(net) for total in sums]))


def test_with_one_pair_a_cluster_it_is_the_exact_mcnemar_test() -> None:
    assert sign_flip_p([-1] * 3 + [1] * 9) == pytest.approx(float(mcnemar_exact(3, 9, "rise")))


def test_pairs_are_summed_by_cluster() -> None:
    clusters = Clusters.of([7, 7, 9, 9, 9], [1, 0, 0, 0, 1], [0, 0, 1, 1, 0])
    assert (clusters.net.tolist(), clusters.sizes.tolist()) == ([1, -1], [2, 3])
    assert clusters.mirrored().net.tolist() == [-1, 1]


def test_a_margin_is_never_easier_with_clusters_than_without() -> None:
    counts = PairCounts(94, 3, 3, 0)
    alike = Clusters(np.array([3, -3] + [0] * 8), np.full(10, 10))
    assert cluster_margin_p(alike, counts, -0.05) > margin_p(counts, -0.05)
    unflipped = Clusters(np.zeros(10, int), np.full(10, 10))
    assert cluster_margin_p(unflipped, PairCounts(100, 0, 0, 0), -0.05) == pytest.approx(0.95**10)
    many = Clusters(np.zeros(100, int), np.full(100, 5))
    assert cluster_margin_p(many, PairCounts(500, 0, 0, 0), -0.03) == pytest.approx(0.97**100)
    assert cluster_margin_p(Clusters(np.array([0]), np.array([100])), PairCounts(100, 0, 0, 0), -0.05) == 1.0


@pytest.mark.parametrize(
    ("number", "size", "share", "drop"),
    [(10, 50, 0.1, 0.3), (100, 5, 0.03, 1.0), (100, 5, 0.05, 0.6), (40, 10, 0.06, 0.5)],
)
def test_a_drop_of_the_margin_in_few_clusters_passes_no_more_often_than_alpha(
    number: int, size: int, share: float, drop: float
) -> None:
    rng = np.random.default_rng(7)
    passed = []
    for _ in range(2000):
        lost = rng.binomial(size, np.where(rng.random(number) < share, drop, 0.0))
        clusters = Clusters(-lost, np.full(number, size))
        counts = PairCounts(number * size - int(lost.sum()), int(lost.sum()), 0, 0)
        passed.append(cluster_margin_p(clusters, counts, -share * drop) <= 0.05)
    assert np.mean(passed) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("number", "gaining"), [(10, 0.1), (20, 0.05), (50, 0.02), (100, 0.02)])
def test_few_large_gains_against_many_small_losses_are_no_drop(number: int, gaining: float) -> None:
    """Nothing changed on average, and a sample often holds losses alone: sign flips say "a drop" in up to a quarter."""
    rng = np.random.default_rng(8)
    drops, signs = [], []
    for _ in range(500):
        chance = rng.random(number)
        net = np.where(chance < gaining, 5, np.where(chance < 6 * gaining, -1, 0))
        drops.append(cluster_drop_p(Clusters(net, np.full(number, 5))) <= 0.05)
        signs.append(sign_flip_p(-net) <= 0.05)
    assert np.mean(signs) > 0.1
    assert np.mean(drops) <= 0.05


def test_a_drop_of_every_init_state_still_shows() -> None:
    assert cluster_drop_p(Clusters(np.full(20, -1), np.full(20, 5))) <= 0.05
    assert cluster_drop_p(Clusters(np.full(10, -10), np.full(10, 50))) > 0.05, "two of ten tasks may gain whole"
    assert cluster_drop_p(Clusters(np.full(10, -20), np.full(10, 50))) <= 0.05


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_intervals_hold_for_new_init_states_where_clopper_pearson_does_not(rate: float) -> None:
    rng = np.random.default_rng(9)
    states = rng.beta(rate * 4, (1 - rate) * 4, (300, 10))  # correlation 0.2 between trials of an init state
    solved = rng.binomial(5, states)
    held = np.mean([clustered_rate_interval(one, np.full(10, 5)).contains(rate) for one in solved])
    low, high = clopper_pearson(solved.sum(axis=1), 50)
    assert held >= 0.93 > np.mean((low <= rate) & (rate <= high))


def test_one_cluster_says_nothing() -> None:
    assert clustered_rate_interval([3], [5]) == (0.0, 1.0)
