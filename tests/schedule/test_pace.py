"""The band of a run's time left holds as often as it says, and the limit is what the time went to."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from harness.schedule.pace import MIN_EPISODES, Pace
from harness.schedule.result import EpisodeResult
from harness.schedule.units import EpisodeUnit


def result(unit: EpisodeUnit, wall_s: float, **parts: float) -> EpisodeResult:
    return EpisodeResult(unit, "success", datetime(2026, 3, 1, tzinfo=UTC), wall_s=wall_s, **parts)


@pytest.fixture
def unit() -> EpisodeUnit:
    return object()  # type: ignore[return-value]


@pytest.mark.parametrize(("done", "left"), [(8, 200), (50, 50), (200, 8)])
def test_nine_in_ten_runs_end_within_the_band(unit: EpisodeUnit, done: int, left: int) -> None:
    rng, inside = np.random.default_rng(7), 0
    for _ in range(400):
        seconds = rng.gamma(4.0, 2.5, size=done + left)
        pace = Pace()
        for each in seconds[:done]:
            pace.add(result(unit, each))
        band = pace.band(left * float(seconds[:done].mean()), left)
        assert band is not None
        inside += band[0] <= seconds[done:].sum() <= band[1]
    assert 0.85 <= inside / 400 <= 0.95


def test_there_is_no_band_before_enough_is_known_nor_after_the_end(unit: EpisodeUnit) -> None:
    pace = Pace()
    for _ in range(MIN_EPISODES - 1):
        pace.add(result(unit, 1.0))
    assert (pace.band(10.0, 10), pace.limit()) == (None, None)
    pace.add(result(unit, 1.0))
    assert pace.band(10.0, 10) == (10.0, 10.0)
    assert pace.band(0.0, 0) is None
    assert pace.band(None, 10) is None


def test_the_limit_is_the_largest_part_of_the_time(unit: EpisodeUnit) -> None:
    pace = Pace()
    for _ in range(MIN_EPISODES):
        pace.add(result(unit, 10.0, policy_wait_s=6.0, physics_s=2.0, render_s=1.0))
    assert pace.limit() == ("policy", pytest.approx(0.6))
