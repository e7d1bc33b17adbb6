"""Looks that were planned: exact boundaries against enumeration, levels against another implementation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from harness.analysis.paired.group_sequential import (
    PATIENCE,
    FairWalk,
    chance_to_exclude,
    chance_to_show_drop,
    look_levels,
    walk_boundaries,
)
from harness.analysis.paired.statistics import PairCounts, mcnemar_exact


@pytest.mark.parametrize("looks", [[(10, 4), (20, 8), (30, 12)], [(5, 0), (10, 9), (40, 14)], [(30, 11)]])
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_boundaries_err_exactly_as_enumeration_says(looks: list[tuple[int, int]], alpha: float) -> None:
    planned = looks[-1][0]
    boundaries = walk_boundaries(looks, alpha, planned)
    walk = FairWalk(alpha, planned)
    for pairs, flips in looks:
        walk.look(pairs, flips)
    alarms = 0
    for losses in product((0, 1), repeat=looks[-1][1]):
        seen = [sum(losses[:flips]) for _, flips in looks]
        alarms += any(line is not None and lost >= line for lost, line in zip(seen, boundaries, strict=True))
    assert alarms / 2 ** looks[-1][1] == pytest.approx(walk.spent)
    assert walk.spent <= alpha


@pytest.mark.parametrize("flips", range(0, 40, 3))
def test_with_one_look_it_is_the_exact_mcnemar_test(flips: int) -> None:
    (line,) = walk_boundaries([(100, flips)], 0.05, 100)
    rejected = [lost for lost in range(flips + 1) if mcnemar_exact(lost, flips - lost, "drop") <= 0.05]
    assert line == (min(rejected) if rejected else None)


def test_levels_of_the_looks_spend_alpha_by_the_multivariate_normal_law_of_scipy() -> None:
    shares = np.array([0.25, 0.6, 1.0])
    lines = stats.norm.isf(look_levels(tuple(shares), 0.05))
    correlation = np.sqrt(np.minimum.outer(shares, shares) / np.maximum.outer(shares, shares))
    for looks in (1, 2, 3):
        law = stats.multivariate_normal(cov=correlation[:looks, :looks])
        assert 1 - law.cdf(lines[:looks]) == pytest.approx(0.05 * shares[looks - 1] ** PATIENCE, abs=2e-4)


def test_one_look_may_use_all_of_alpha_and_looks_have_to_rise() -> None:
    assert look_levels((1.0,), 0.05) == pytest.approx([0.05], abs=3e-4)
    with pytest.raises(ValueError, match="rise"):
        look_levels((0.5, 0.5), 0.05)


def test_chances_of_the_end_are_what_a_simulation_finds() -> None:
    rng = np.random.default_rng(5)
    seen = PairCounts(94, 4, 2, 0)
    rest = rng.multinomial(100, [0.03, 0.03, 0.94], size=20_000)
    net = 2 - 4 + rest[:, 1] - rest[:, 0]
    flips = 6 + rest[:, 0] + rest[:, 1]
    shown = float((-net > stats.norm.isf(0.05) * np.sqrt(flips)).mean())
    assert chance_to_show_drop(seen, 200, 0.05, 0.0) == pytest.approx(shown, abs=0.05)
    excluded = float((net + 200 * 0.08 > stats.norm.isf(0.05) * np.sqrt(200 * 0.08 * 0.92)).mean())
    assert chance_to_exclude(seen, 200, 0.08, 0.05, 0.0) == pytest.approx(excluded, abs=0.05)
