"""Power and sample sizes against closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.paired.power import drop_power, minimum_detectable_drop, pairs_needed
from harness.analysis.paired.statistics import mcnemar_exact


def test_power_is_what_a_simulation_finds() -> None:
    rng = np.random.default_rng(7)
    lost, gained, _ = rng.multinomial(400, [0.035, 0.005, 0.96], size=40_000).T
    rejected = float((mcnemar_exact(lost, gained, "drop") <= 0.05).mean())
    assert drop_power(400, 0.03, 0.04) == pytest.approx(rejected, abs=0.01)


def test_without_a_drop_power_is_below_alpha() -> None:
    assert 0 < drop_power(500, 0.0, 0.04) <= 0.05


def test_the_number_needed_has_the_power_and_fewer_do_not() -> None:
    n = pairs_needed(0.03, 0.04, power=0.9)
    assert n is not None
    assert drop_power(n, 0.03, 0.04) >= 0.9
    assert drop_power(n - 30, 0.03, 0.04) < 0.9


@pytest.mark.parametrize(("n", "normal_approximation"), [(500, 0.022), (2000, 0.011)])
def test_detectable_drops_are_near_the_textbook_approximation(n: int, normal_approximation: float) -> None:
    # (z_0.95 + z_0.8) sqrt(discordance / n), one-sided
    assert minimum_detectable_drop(n, 0.04) == pytest.approx(normal_approximation, abs=0.0015)


def test_twenty_episodes_show_nothing_below_thirty_points() -> None:
    found = minimum_detectable_drop(20, 0.04)
    assert found is not None
    assert found > 0.3


def test_too_few_episodes_show_nothing_at_all() -> None:
    assert minimum_detectable_drop(3, 0.04) is None
    assert minimum_detectable_drop(0, 0.0) is None


def test_a_drop_that_is_too_small_for_any_budget_has_no_number() -> None:
    assert pairs_needed(0.0, 0.04) is None
    assert pairs_needed(1e-6, 0.5) is None


def test_a_drop_larger_than_the_discordance_is_refused() -> None:
    with pytest.raises(ValueError, match="discordance"):
        drop_power(100, 0.05, 0.04)
