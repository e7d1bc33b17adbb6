"""When a batch starts, and how large one is worth it."""

from __future__ import annotations

import pytest

from harness.schedule.batching import (
    MAX_WAIT_S,
    MIN_GAPS,
    Waiting,
    bucket_of,
    buckets,
    choose_batch,
    next_batch,
    patience,
)


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({1: 0.1, 2: 0.1, 4: 0.1, 8: 0.1}, (8, 0.01)),  # batching costs nothing: the largest
        ({1: 0.1, 2: 0.2, 4: 0.4}, (1, 0.0)),  # it gains nothing: nobody waits
        ({1: 0.02, 2: 0.03, 4: 0.05, 8: 0.098}, (4, 0.002)),  # 8 serves hardly more than 4
        ({1: 0.1, 2: 0.25, 4: 0.2, 8: 0.2}, (8, 0.01)),  # one disturbed measurement decides nothing
        ({1: 10.0, 2: 10.0}, (2, MAX_WAIT_S)),
        ({1: 0.1}, (1, 0.0)),
    ],
)
def test_the_smallest_batch_that_serves_nearly_as_much_as_the_best(measured, expected):
    assert choose_batch(measured) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("groups", "n_clients", "expected"),
    [
        ({4: Waiting(9.99, 1)}, None, (4, 0.04)),  # one request waits for company
        ({4: Waiting(9.9, 1)}, None, (4, 0.0)),  # but not for ever
        ({4: Waiting(10.0, 8)}, None, (4, 0.0)),  # a full batch waits for nobody
        ({4: Waiting(10.0, 1)}, 1, (4, 0.0)),  # nor does a lone client
        ({4: Waiting(10.0, 1), 1: Waiting(9.98, 1)}, 2, (1, 0.0)),  # everybody is waiting, at different NFE
        ({4: Waiting(10.0, 8), 1: Waiting(9.98, 1)}, None, (1, 0.03)),  # the oldest request's group goes first
    ],
)
def test_a_batch_starts_when_it_is_full_or_nobody_else_can_come_or_its_time_is_up(groups, n_clients, expected):
    nfe, wait_s = next_batch(groups, 10.0, max_batch=8, max_wait_s=0.05, n_clients=n_clients)
    assert (nfe, wait_s) == (expected[0], pytest.approx(expected[1]))


def test_recorded_sizes_are_powers_of_two_and_the_largest_batch_and_hold_every_batch():
    assert buckets(1) == (1,)
    assert buckets(8) == (1, 2, 4, 8)
    assert buckets(12) == (1, 2, 4, 8, 12)
    for largest in range(1, 70):
        sizes = buckets(largest)
        for n in range(1, largest + 1):
            # Never more than twice the work, and never a size that was not recorded.
            assert n <= bucket_of(n, sizes) < 2 * n + (n == 1)
            assert bucket_of(n, sizes) in sizes
    assert bucket_of(5, ()) == bucket_of(5, (1, 2, 4)) == 5


@pytest.mark.parametrize(
    ("gaps", "wait"),
    [
        ([0.5] * 20, 0.0),  # the next one comes long after
        ([0.001, 0.5] * 10, 0.001),  # two in step: the second is worth a millisecond
        ([0.001, 0.5, 0.5] * 10, 0.0),  # most would wait in vain
        ([0.0005] * 19 + [0.0099], 0.0005),  # one straggler is not waited for
        ([0.5] * (MIN_GAPS - 1), 0.01),  # too few to tell
    ],
)
def test_a_request_waits_as_long_as_company_lately_took(gaps, wait):
    assert patience(gaps, 0.01) == pytest.approx(wait)
