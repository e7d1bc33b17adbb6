"""The exact test of a margin against enumeration and closed forms."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from harness.analysis.paired.margin import exact_lower_bound, margin_critical, margin_p, margin_size, score_statistic
from harness.analysis.paired.statistics import PairCounts, difference_bounds


def counts(n: int, lost: int, gained: int) -> PairCounts:
    return PairCounts(n - lost - gained, lost, gained, 0)


def enumerated(n: int, lost: int, gained: int, bound: float) -> float:
    """Every table of n pairs, at 400 rates of flips."""
    observed = float(score_statistic(lost, gained, n, bound))
    reached = [
        (x, g)
        for x in range(n + 1)
        for g in range(n + 1 - x)
        if float(score_statistic(x, g, n, bound)) >= observed - 1e-9
    ]
    rates = np.linspace(max(0.0, -bound), (1 - bound) / 2, 400)
    sums = np.zeros(rates.size)
    for x, g in reached:
        rest = np.clip(1 - 2 * rates - bound, 0, 1) ** (n - x - g)
        sums += comb(n, x) * comb(n - x, g) * rates**x * (rates + bound) ** g * rest
    return float(sums.max())


@pytest.mark.parametrize(("n", "lost", "gained"), [(12, 1, 2), (12, 0, 0), (9, 3, 1), (10, 0, 1)])
@pytest.mark.parametrize("bound", [-0.2, -0.05, 0.1])
def test_the_p_value_is_that_of_every_table_at_the_worst_rate_of_flips(
    n: int, lost: int, gained: int, bound: float
) -> None:
    assert margin_p(counts(n, lost, gained), bound) == pytest.approx(enumerated(n, lost, gained, bound), abs=0.004)


def test_without_a_flip_99_pairs_exclude_a_drop_of_3_points() -> None:
    assert margin_p(counts(98, 0, 0), -0.03) > 0.05 > margin_p(counts(99, 0, 0), -0.03)
    assert margin_p(counts(99, 0, 0), -0.03) == pytest.approx(0.97**99, abs=1e-6)


def test_no_pairs_and_pairs_without_end() -> None:
    assert margin_p(counts(0, 0, 0), -0.03) == 1.0
    assert margin_p(counts(1_000_000, 100, 90), -0.03) < 1e-9
    assert exact_lower_bound(counts(0, 0, 0), 0.05) == -1.0


@pytest.mark.parametrize(("n", "lost", "gained"), [(100, 0, 0), (400, 5, 5), (60, 12, 3), (20, 20, 0)])
def test_the_lower_bound_is_where_the_test_stops_rejecting(n: int, lost: int, gained: int) -> None:
    bound = exact_lower_bound(counts(n, lost, gained), 0.05)
    if bound > -1:
        assert margin_p(counts(n, lost, gained), bound) <= 0.05
        assert margin_p(counts(n, lost, gained), bound + 0.005) > 0.05
        assert bound >= float(difference_bounds(lost, gained, n, 0.9)[0]) - 1e-3, "never wider than Edwards' correction"


def test_the_critical_value_has_the_size_that_was_asked() -> None:
    critical = margin_critical(200, -0.03, 0.05)
    assert margin_size(critical, 200, -0.03) <= 0.05 < margin_size(critical - 0.15, 200, -0.03)
