"""Intervals of rates and quantiles hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint

from harness.analysis.intervals import clopper_pearson, exact_coverage, quantile_interval, rate_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (1, 20), (19, 20), (20, 20), (485, 500), (1940, 2000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_rates_have_the_interval_of_scipy_and_statsmodels(successes: int, n: int, confidence: float) -> None:
    ours = rate_interval(successes, n, confidence)
    assert ours == pytest.approx(tuple(binomtest(successes, n).proportion_ci(confidence)), abs=1e-9)
    assert ours == pytest.approx(proportion_confint(successes, n, 1 - confidence, method="beta"), abs=1e-9)


def test_nineteen_and_twenty_of_twenty_cannot_be_told_apart() -> None:
    assert rate_interval(19, 20) == pytest.approx((0.7513, 0.9987), abs=1e-4)
    assert rate_interval(20, 20) == pytest.approx((0.8316, 1.0), abs=1e-4)


@pytest.mark.parametrize("n", [20, 100, 500, 2000])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.97, 0.99, 1.0])
def test_coverage_is_at_least_nominal_where_robot_policies_live(n: int, p: float) -> None:
    low, high = clopper_pearson(np.arange(n + 1), n)
    assert exact_coverage(low, high, p) >= 0.95


def test_wilson_would_fall_short_there() -> None:
    low, high = proportion_confint(np.arange(101), 100, method="wilson")
    assert exact_coverage(low, high, 0.99) == pytest.approx(0.9206, abs=1e-4)


def test_no_trials_say_nothing() -> None:
    assert rate_interval(0, 0) == (0.0, 1.0)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        rate_interval(21, 20)
    with pytest.raises(ValueError, match="confidence is 95"):
        rate_interval(19, 20, 95)


def test_p99_has_no_upper_bound_below_368_samples() -> None:
    samples = np.arange(368.0)
    assert quantile_interval(samples[:367], 0.99).high == np.inf
    assert quantile_interval(samples, 0.99).high == 367.0
    assert quantile_interval(samples[:5], 0.5) == (-np.inf, np.inf)


def test_the_median_of_twenty_lies_between_the_6th_and_15th() -> None:
    # The textbook pair of ranks for n = 20 at 95 %: coverage 95.9 %.
    assert quantile_interval(np.arange(1.0, 21.0), 0.5) == (6.0, 15.0)
