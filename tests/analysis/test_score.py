"""Partial credit: what an episode scores, and paired tests against enumeration and the special case of success."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from harness.analysis.paired.score import (
    LATTICE,
    ScoreWalk,
    drop_p,
    log_evidence,
    mean_interval,
    on_lattice,
    shown_drop,
    skew_guard,
)
from harness.analysis.paired.sequential import log_evidence_above
from harness.analysis.paired.statistics import mcnemar_exact
from harness.analysis.success.credit import scores


def test_a_score_is_one_for_success_and_below_one_for_how_far_a_failure_came() -> None:
    found = scores(
        [True, False, False, False, False, False],
        [1, 1, 1, 2, 2, np.nan],
        [1, 0, 0, 1, 1, np.nan],
        ["none", "none", "over_target", "grasped", None, None],
    )
    np.testing.assert_allclose(found, [1, 0, 0.75, 0.625, 0.5, np.nan])


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 2, 3], [4, 4, 1, 1, 1, 1, 1, 2]])
def test_boundaries_err_exactly_as_enumeration_says(sizes: list[int]) -> None:
    cut, alpha = len(sizes) // 2, 0.3
    walk = ScoreWalk(alpha, len(sizes))
    parts = [np.array(sizes[:cut]), np.array(sizes[cut:])]
    lines = [walk.look(pairs, part) for pairs, part in zip((cut, len(sizes)), parts, strict=True)]
    alarms = 0
    for signs in product((0, 1), repeat=len(sizes)):
        lost = np.cumsum(np.array(signs) * sizes)[[cut - 1, -1]]
        alarms += any(line is not None and mass >= line for mass, line in zip(lost, lines, strict=True))
    assert alarms / 2 ** len(sizes) == pytest.approx(walk.spent)
    assert 0 < walk.spent <= alpha


def test_with_differences_of_one_it_is_the_exact_mcnemar_test() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        differences = rng.choice([-1, 0, 1], size=60, p=[0.2, 0.65, 0.15])
        lost, gained = int((differences < 0).sum()), int((differences > 0).sum())
        assert drop_p(differences) == pytest.approx(float(mcnemar_exact(lost, gained, "drop")))


def test_with_differences_of_one_the_evidence_is_that_of_success() -> None:
    differences = np.repeat([-1.0, 0.0, 1.0], [3, 90, 7])
    assert log_evidence(differences, -0.03) == pytest.approx(float(log_evidence_above(7, 3, 100, -0.03)))


def test_small_losses_count_less_than_large_ones() -> None:
    gains, losses = np.full(6, 1.0), np.full(9, -0.25)
    assert drop_p(np.r_[gains, losses]) > 0.9
    assert drop_p(np.r_[gains / 4, losses * 4]) < 0.05


def test_a_drop_is_shown_once_and_for_all_looks_after_it() -> None:
    looks = [on_lattice(np.full(20, -0.5)), on_lattice(np.full(20, 0.5))]
    assert shown_drop(looks[:1], (20, 40), 0.05)
    assert shown_drop(looks, (20, 40), 0.05)
    assert not shown_drop(looks[::-1], (20, 40), 0.05)
    assert not shown_drop([np.zeros(20, dtype=np.int64)], (20, 40), 0.05)


def test_a_few_small_losses_are_no_drop_before_the_first_large_gain_could_come() -> None:
    """Losses of a quarter that one gain of a whole makes up for: signs alone would call five of five a drop."""
    few = on_lattice(np.r_[np.full(5, -0.25), np.zeros(45)])
    assert drop_p(few / LATTICE) < 0.05
    assert not shown_drop([few], (50,), 0.05)
    assert shown_drop([np.tile(few, 10)], (500,), 0.05)


def test_the_guard_is_gone_where_large_losses_are_as_frequent_as_large_gains() -> None:
    even = np.tile([1.0, -1.0], 50)
    small = np.tile([1.0, *[-0.25] * 4], 20)
    assert skew_guard(even, 60.0) < 0.05
    assert skew_guard(small, 26.0) > 0.5
    assert skew_guard(-small, 26.0) == 0.0


@pytest.mark.parametrize("looks", [1, 5])
def test_many_small_losses_for_few_large_gains_of_the_same_mean_are_no_drop(looks: int) -> None:
    """Signs are not fair there; without the guard some 8 % of nights alarm at a nominal 5 %."""
    rng = np.random.default_rng(6)
    sizes = tuple(60 * (look + 1) * 5 // looks for look in range(looks))
    alarms = 0
    for _ in range(200):
        gained = rng.random(300) < 0.02
        night = np.where(gained, 1.0, np.where(rng.random(300) < 0.02 / (0.98 * 0.25), -0.25, 0.0))
        alarms += shown_drop(np.split(on_lattice(night), sizes[:-1]), sizes, 0.05)
    assert alarms <= 14


def test_quarters_of_up_to_six_goals_fall_on_the_lattice() -> None:
    for goals in range(1, 7):
        assert LATTICE % (4 * goals) == 0


def test_the_interval_of_the_mean_holds_it_and_narrows() -> None:
    rng = np.random.default_rng(2)
    widths = []
    for n in (50, 500, 5000):
        found = [mean_interval(rng.choice([-0.5, 0.0, 0.25, 1.0], size=n, p=[0.1, 0.7, 0.1, 0.1])) for _ in range(40)]
        assert np.mean([one.contains(0.075) for one in found]) >= 0.95
        widths.append(np.mean([one.high - one.low for one in found]))
    assert widths[0] > widths[1] > widths[2]
    assert mean_interval([]) == (-1.0, 1.0)
