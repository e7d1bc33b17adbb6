"""What each clock executes, and what it says of a delay that leaves nothing to execute."""

from __future__ import annotations

import pytest

from harness.clocks import CLOCK_OF
from harness.clocks.clock import HOLD, Move


def moves(clock, delay, expected=None, *, interval=4, chunk_length=6, old_from=None):
    return CLOCK_OF[clock].moves(
        delay,
        delay if expected is None else expected,
        interval=interval,
        chunk_length=chunk_length,
        old_from=old_from,
    )


def new(*actions):
    return tuple(Move("new", i) for i in actions)


def old(*actions):
    return tuple(Move("old", i) for i in actions)


@pytest.mark.parametrize("clock", CLOCK_OF)
@pytest.mark.parametrize(("interval", "length"), [(1, 1), (4, 6), (6, 6)])
@pytest.mark.parametrize("old_from", [None, 2])
def test_without_delay_every_clock_executes_the_replan_interval(clock, interval, length, old_from):
    found = moves(clock, 0, interval=interval, chunk_length=length, old_from=old_from)
    assert found == new(*range(interval))


def test_blocking_holds_and_then_executes_the_whole_interval():
    assert moves("blocking", 3, old_from=2) == (HOLD,) * 3 + new(0, 1, 2, 3)


@pytest.mark.parametrize("clock", ["asynchronous", "rtc"])
class TestOverlapping:
    """Clocks under which the old chunk goes on."""

    def test_the_old_chunk_goes_on_and_actions_whose_time_has_passed_are_skipped(self, clock):
        assert moves(clock, 2, old_from=3) == old(3, 4) + new(2, 3)

    def test_the_robot_holds_where_the_old_chunk_has_run_out(self, clock):
        assert moves(clock, 2, old_from=5) == (*old(5), HOLD, *new(2, 3))
        assert moves(clock, 2) == (HOLD, HOLD, *new(2, 3))

    def test_the_next_observation_is_taken_so_early_that_the_chunk_lasts(self, clock):
        assert moves(clock, 1, expected=5, old_from=1) == old(1)
        assert moves(clock, 1, expected=3, old_from=1) == (*old(1), *new(1, 2))

    def test_one_decision_is_in_flight_at_a_time(self, clock):
        assert moves(clock, 5, old_from=4) == (*old(4, 5), HOLD, HOLD, HOLD)

    def test_time_passes_even_where_more_delay_is_expected_than_the_chunk_lasts(self, clock):
        assert moves(clock, 0, expected=9) == new(0)


def test_the_longest_of_the_last_ten_delays_is_expected():
    clock = CLOCK_OF["asynchronous"]
    assert clock.expect([]) == 0
    assert clock.expect([9, 1, 2]) == 9
    assert clock.expect([9, *[1] * 10]) == 1


@pytest.mark.parametrize(
    ("clock", "delay", "told"),
    [
        ("blocking", 49, None),
        ("blocking", 50, "as long as the episode, 50 steps"),
        ("asynchronous", 9, None),
        ("asynchronous", 10, "the chunk of 10 steps does not outlast the delay of 10 steps"),
        ("rtc", 26, "does not outlast the delay of 26 steps"),
        ("rtc", 60, "as long as the episode"),
    ],
)
def test_a_delay_that_leaves_nothing_to_execute_is_told(clock, delay, told):
    found = CLOCK_OF[clock].outlives(delay, 10, 50)
    assert found is None if told is None else told in found
