"""Shares of time in which policy servers were busy."""

from __future__ import annotations

import pytest

from harness.schedule.usage import ServerUse, busy_share


def test_the_share_is_of_the_time_between_two_looks():
    before = [ServerUse("a", 10.0, 4.0), ServerUse("b", 100.0, 0.0)]
    now = [ServerUse("a", 12.0, 5.0), ServerUse("b", 104.0, 4.0)]
    assert busy_share(before, now) == pytest.approx((0.5 + 1.0) / 2)


def test_a_server_that_was_started_again_has_no_share_yet():
    before = [ServerUse("a", 10.0, 4.0)]
    assert busy_share(before, [ServerUse("c", 1.0, 1.0)]) is None
    assert busy_share(before, [ServerUse("c", 1.0, 1.0), ServerUse("a", 11.0, 4.25)]) == pytest.approx(0.25)


def test_a_share_stays_between_nothing_and_all():
    assert busy_share([ServerUse("a", 0.0, 0.0)], [ServerUse("a", 1.0, 1.5)]) == 1.0
    assert busy_share([ServerUse("a", 1.0, 1.0)], [ServerUse("a", 1.0, 1.0)]) is None
