"""What comes next, what gives way, what is left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.watch.backlog.journal import JournalEntry
from harness.watch.backlog.order import BacklogOrder, choose, overflow, supersedes


def entry(step: int, lineage: int = 1) -> JournalEntry:
    return JournalEntry(f"step-{step}-{lineage}", step, lineage, f"/{step}", f"d{step}{lineage}", step)


def sequence(order: BacklogOrder, steps: list[int]) -> list[int]:
    """The order in which a backlog is worked off."""
    waiting, done = [entry(step) for step in steps], []
    while waiting:
        chosen = choose(waiting, done, order)
        assert chosen is not None
        waiting.remove(chosen)
        done.append(chosen)
    return [one.step for one in done]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (BacklogOrder.NEWEST, [8, 7, 6, 5, 4, 3, 2, 1]),
        (BacklogOrder.ALL, [1, 2, 3, 4, 5, 6, 7, 8]),
        (BacklogOrder.BISECT, [8, 1, 5, 3, 7, 6, 4, 2]),
    ],
)
def test_a_backlog_is_worked_off_in_the_order_that_was_chosen(order: BacklogOrder, expected: list[int]) -> None:
    assert sequence(order, [3, 1, 2, 8, 5, 4, 7, 6]) == expected


def test_bisecting_goes_to_a_newer_checkpoint_first() -> None:
    assert choose([entry(4), entry(9)], [entry(8), entry(1)], BacklogOrder.BISECT) == entry(9)


def test_after_a_restart_the_present_lineage_comes_first() -> None:
    waiting = [entry(9000), entry(2000, lineage=2)]
    assert choose(waiting, [], BacklogOrder.NEWEST) == entry(2000, lineage=2)
    assert choose(waiting, [], BacklogOrder.BISECT) == entry(2000, lineage=2)
    assert choose(waiting, [], BacklogOrder.ALL) == entry(9000)


def test_only_a_newer_checkpoint_cancels_and_only_under_newest() -> None:
    running, waiting = entry(2), [entry(1), entry(3), entry(4)]
    assert supersedes(running, waiting, BacklogOrder.NEWEST, cancel=True) == entry(4)
    assert supersedes(running, [entry(1)], BacklogOrder.NEWEST, cancel=True) is None
    assert supersedes(running, waiting, BacklogOrder.NEWEST, cancel=False) is None
    assert supersedes(running, waiting, BacklogOrder.ALL, cancel=True) is None
    assert supersedes(running, waiting, BacklogOrder.BISECT, cancel=True) is None


def test_beyond_the_limit_those_are_skipped_that_would_have_come_last() -> None:
    waiting = [entry(step) for step in range(1, 9)]
    assert [one.step for one in overflow(waiting, [], BacklogOrder.NEWEST, 3)] == [1, 2, 3, 4, 5]
    assert [one.step for one in overflow(waiting, [], BacklogOrder.BISECT, 3)] == [2, 3, 4, 6, 7]
    assert overflow(waiting, [], BacklogOrder.NEWEST, 8) == overflow(waiting, [], BacklogOrder.NEWEST, None) == []


@given(st.lists(st.integers(0, 50), unique=True, max_size=20), st.sampled_from(list(BacklogOrder)))
def test_every_checkpoint_has_its_turn(steps: list[int], order: BacklogOrder) -> None:
    assert sorted(sequence(order, steps)) == sorted(steps)
