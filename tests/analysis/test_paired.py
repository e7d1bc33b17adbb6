"""Paired tests and intervals against published tables, other implementations and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln, xlogy
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from harness.analysis.paired.statistics import (
    PairCounts,
    difference_bounds,
    difference_interval,
    holm,
    mcnemar_exact,
    newcombe_bounds,
)

BENTUR = PairCounts(both=1, lost=7, gained=1, neither=12)
"""Airway hyper-responsiveness, 21 pairs; published intervals of the difference -0.286 (Fagerland, Lydersen and Laake,
Statistical Analysis of Contingency Tables, 2017, table 8.4): Tango -0.517 to -0.026, Newcombe -0.507 to -0.026."""


def test_tango_without_correction_gives_the_published_interval() -> None:
    low, high = difference_bounds(BENTUR.lost, BENTUR.gained, BENTUR.n, correction=0)
    assert (float(low), float(high)) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_newcombe_gives_the_published_intervals() -> None:
    low, high = newcombe_bounds(BENTUR.both, BENTUR.lost, BENTUR.gained, BENTUR.n)
    assert (float(low), float(high)) == pytest.approx((-0.507, -0.026), abs=5e-4)
    # Newcombe 1998, table II, method 10: 36, 12, 2, 0.
    low, high = newcombe_bounds(36, 2, 12, 50)
    assert (float(low), float(high)) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def likelihood_score(lost: int, gained: int, n: int, delta: float) -> float:
    """Tango's statistic from a numerical maximisation of the likelihood under "difference = delta"."""

    def loss(q: float) -> float:
        return -float(xlogy(gained, q + delta) + xlogy(lost, q) + xlogy(n - lost - gained, 1 - 2 * q - delta))

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return float((gained - lost - n * delta) / np.sqrt(n * (2 * q + delta - delta**2)))


@pytest.mark.parametrize(("lost", "gained", "n"), [(7, 1, 21), (3, 9, 200), (20, 40, 160), (1, 1, 30)])
def test_tango_inverts_the_score_test(lost: int, gained: int, n: int) -> None:
    z = float(norm.isf(0.025))
    low, high = difference_bounds(lost, gained, n, correction=0)
    expected = [
        brentq(lambda d, sign=sign: likelihood_score(lost, gained, n, d) - sign * z, *bracket)
        for sign, bracket in (
            (1, (-0.999, (gained - lost) / n - 1e-9)),
            (-1, ((gained - lost) / n + 1e-9, 0.999)),
        )
    ]
    assert [float(low), float(high)] == pytest.approx(expected, abs=1e-4)


def exact_tails(n: int, q_lost: float, q_gained: float, confidence: float, correction: float) -> tuple[float, float]:
    """Exact probabilities that the interval lies wholly above, and wholly below, the true difference."""
    lost, gained = (grid.ravel() for grid in np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij"))
    possible = lost + gained <= n
    lost, gained = lost[possible], gained[possible]
    rest = n - lost - gained
    log_p = gammaln(n + 1) - gammaln(lost + 1) - gammaln(gained + 1) - gammaln(rest + 1)
    p = np.exp(log_p + xlogy(lost, q_lost) + xlogy(gained, q_gained) + xlogy(rest, 1 - q_lost - q_gained))
    low, high = difference_bounds(lost, gained, n, confidence, correction=correction)
    truth = q_gained - q_lost
    return float(p[low > truth + 1e-9].sum()), float(p[high < truth - 1e-9].sum())


@pytest.mark.parametrize("n", [20, 50, 100, 200])
@pytest.mark.parametrize(
    ("q_lost", "q_gained"), [(0.036, 0.005), (0.05, 0.0007), (0.03, 0.0), (0.02, 0.02), (0.3, 0.1)]
)
@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_each_tail_of_the_difference_interval_holds(n: int, q_lost: float, q_gained: float, alpha: float) -> None:
    for first, second in ((q_lost, q_gained), (q_gained, q_lost)):
        above, below = exact_tails(n, first, second, 1 - 2 * alpha, correction=1)
        assert max(above, below) <= alpha


def test_without_the_correction_a_tail_would_err_almost_twice_as_often() -> None:
    assert max(exact_tails(100, 0.036, 0.005, 0.90, correction=0)) == pytest.approx(0.097, abs=0.002)


@given(both=st.integers(0, 300), lost=st.integers(0, 40), gained=st.integers(0, 40), neither=st.integers(0, 300))
def test_the_interval_contains_the_estimate_and_mirrors(both: int, lost: int, gained: int, neither: int) -> None:
    counts = PairCounts(both, lost, gained, neither)
    low, high = difference_interval(counts)
    assert -1 <= low <= high <= 1
    if counts.n:
        assert low - 1e-9 <= counts.difference <= high + 1e-9
    mirrored = difference_interval(PairCounts(both, gained, lost, neither))
    assert (mirrored.low, mirrored.high) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (7, 1), (12, 12), (3, 30)])
def test_mcnemar_is_that_of_statsmodels(lost: int, gained: int) -> None:
    expected = mcnemar([[5, lost], [gained, 5]], exact=True).pvalue
    assert float(mcnemar_exact(lost, gained)) == pytest.approx(expected)


def test_one_sided_mcnemar_looks_the_right_way() -> None:
    assert float(mcnemar_exact(5, 0, "drop")) == pytest.approx(1 / 32)
    assert float(mcnemar_exact(5, 0, "rise")) == 1.0


def test_holm_is_that_of_statsmodels() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.01]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]).size == 0


def test_counts_come_from_aligned_outcomes() -> None:
    counts = PairCounts.of([True, True, False, False, True], [True, False, True, False, False])
    assert counts == PairCounts(both=1, lost=2, gained=1, neither=1)
    assert (counts.difference, counts.discordance) == pytest.approx((-0.2, 0.6))


def test_no_pairs_say_nothing_and_divide_by_nothing() -> None:
    empty = PairCounts(0, 0, 0, 0)
    assert difference_interval(empty) == (-1.0, 1.0)
    assert np.isnan(empty.difference)
