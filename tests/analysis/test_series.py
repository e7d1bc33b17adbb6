"""Step changes over many nights."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis import series
from harness.analysis.series import MIN_NIGHTS, find_steps


def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def test_a_drop_is_found_on_its_night_with_both_levels() -> None:
    noise = 0.005 * np.random.default_rng(2).standard_normal(20)
    values = np.where(np.arange(20) < 13, 0.97, 0.93) + noise
    (step,) = find_steps(values, np.full(20, 400.0), rng())
    assert step.position == 13
    assert (step.before, step.after) == pytest.approx((0.97, 0.93), abs=0.004)
    assert step.p <= 0.01


def test_a_slow_slide_that_no_single_night_shows_is_found() -> None:
    """Over six weeks: in fewer nights a slide is like a series that wanders."""
    values = 0.97 - 0.002 * np.arange(42) + 0.004 * rng().standard_normal(42)
    assert find_steps(values, np.full(42, 400.0), rng())


def test_down_and_up_again_are_two_steps() -> None:
    values = np.concatenate([np.full(10, 0.97), np.full(8, 0.90), np.full(10, 0.97)])
    values += 0.003 * rng().standard_normal(values.size)
    assert [step.position for step in find_steps(values, np.ones(values.size), rng())] == [10, 18]


def test_three_odd_nights_at_the_end_show_among_ten_but_one_does_not() -> None:
    base = 0.97 + 0.002 * rng().standard_normal(10)
    three, one = base.copy(), base.copy()
    three[-3:] -= 0.1
    one[-1] -= 0.1
    assert [step.position for step in find_steps(three, np.ones(10), rng())] == [7]
    assert find_steps(one, np.ones(10), rng()) == ()


def test_series_that_never_changed_show_a_step_at_most_as_often_as_alpha() -> None:
    source = np.random.default_rng(21)
    nights = source.binomial(400, 0.97, size=(300, 15)) / 400
    found = sum(bool(find_steps(night, np.full(15, 400.0), source)) for night in nights)
    assert found / 300 <= 0.05 + 0.025


@pytest.mark.parametrize("rho", [0.3, 0.6])
def test_nights_that_wander_show_a_step_at_most_as_often_as_alpha(rho: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty nights, each like the one before; without the comparison with such series 30 and 80 % of them show one."""
    monkeypatch.setattr(series, "PERMUTATIONS", 399)
    monkeypatch.setattr(series, "SIMULATED", 399)
    source = np.random.default_rng(33)
    nights = series._wandering((40, 60), rho, source)
    found = sum(bool(find_steps(night, np.ones(60), source)) for night in nights)
    assert found / 40 <= 0.05 + 0.05


def test_a_step_among_nights_that_wander_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three standard deviations after thirty nights, autocorrelation 0.3: found on nearly every series."""
    monkeypatch.setattr(series, "PERMUTATIONS", 399)
    monkeypatch.setattr(series, "SIMULATED", 399)
    source = np.random.default_rng(34)
    nights = series._wandering((12, 60), 0.3, source) - 3 * (np.arange(60) >= 30)
    found = [find_steps(night, np.ones(60), source) for night in nights]
    assert sum(any(abs(step.position - 30) <= 1 for step in steps) for steps in found) >= 9


def test_constant_and_short_series_have_no_steps() -> None:
    assert find_steps(np.full(30, 1.0), np.ones(30), rng()) == ()
    short = np.arange(float(MIN_NIGHTS - 1))
    assert find_steps(short, np.ones(short.size), rng()) == ()
    assert find_steps([], [], rng()) == ()


def test_nights_without_a_figure_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        find_steps([1.0, np.nan], [1.0, 1.0], rng())
    with pytest.raises(ValueError, match="weight"):
        find_steps([1.0, 2.0], [1.0, 0.0], rng())
