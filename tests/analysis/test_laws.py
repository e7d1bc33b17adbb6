"""The laws are those of scipy.stats, which a report has no time to import."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.analysis import laws

TRIALS = np.array([1, 2, 3, 8, 20, 101, 1000, 100_000])[:, None, None]
RATES = np.array([0.003, 0.1, 0.5, 0.9, 0.997])[None, :, None]
TAILS = np.array([1e-9, 0.011, 0.025, 0.3, 0.7, 0.975])[None, None, :]


def test_quantiles_of_the_binomial_law_are_the_least_counts_that_reach_a_tail() -> None:
    assert (laws.binomial_ppf(TAILS, TRIALS, RATES) == stats.binom.ppf(TAILS, TRIALS, RATES)).all()
    assert (laws.binomial_isf(TAILS, TRIALS, RATES) == stats.binom.isf(TAILS, TRIALS, RATES)).all()


def test_probabilities_of_the_binomial_law() -> None:
    counts = np.arange(-1, 103)
    for rate in (0.0, 0.01, 0.5, 0.97, 1.0):
        assert laws.binomial_cdf(counts, 101, rate) == pytest.approx(stats.binom.cdf(counts, 101, rate), rel=1e-10)
        assert laws.binomial_sf(counts, 101, rate) == pytest.approx(stats.binom.sf(counts, 101, rate), rel=1e-10)
        within = counts[1:-1]
        assert laws.binomial_pmf(within, 101, rate) == pytest.approx(stats.binom.pmf(within, 101, rate), rel=1e-10)


def test_tails_of_the_continuous_laws() -> None:
    freedom = np.array([1.0, 2.7, 30, np.inf])
    assert laws.t_isf(0.025, freedom) == pytest.approx(stats.t.isf(0.025, freedom), rel=1e-10)
    assert laws.t_sf(2.1, freedom) == pytest.approx(stats.t.sf(2.1, freedom), rel=1e-10)
    assert laws.normal_isf([0.025, 0.5]) == pytest.approx(stats.norm.isf([0.025, 0.5]), rel=1e-10)
    assert laws.normal_sf([-1.0, 3]) == pytest.approx(stats.norm.sf([-1.0, 3]), rel=1e-10)
    assert laws.beta_ppf(0.025, 19, 2) == pytest.approx(stats.beta.ppf(0.025, 19, 2), rel=1e-10)
    assert laws.beta_isf(0.025, 20, 1) == pytest.approx(stats.beta.isf(0.025, 20, 1), rel=1e-10)
