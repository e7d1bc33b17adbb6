"""Retry decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import errors
from harness.rollout import faults
from harness.schedule.retry import FAULTS, Decision, Fault, decide, fault_of

NAMES = st.one_of(st.sampled_from(sorted(FAULTS)), st.text(max_size=20))


@given(NAMES, st.integers(1, 10), st.booleans())
def test_retries_are_bounded_whatever_the_error(error_type, max_attempts, elsewhere):
    attempts = 1
    while decide(error_type, attempts, max_attempts, elsewhere=elsewhere) is Decision.RETRY:
        attempts += 1
    assert attempts <= max_attempts


@pytest.mark.parametrize("error_type", ["PolicyActionError", "PolicyRaised", "RenderError"])
def test_what_keyed_noise_would_reproduce_is_not_tried_again(error_type):
    assert decide(error_type, 1, 3) is Decision.RECORD


def test_what_one_node_cannot_draw_another_may():
    assert decide("RenderError", 1, 3, elsewhere=True) is Decision.RETRY
    assert decide("RenderError", 3, 3, elsewhere=True) is Decision.RECORD
    assert decide("PolicyRaised", 1, 3, elsewhere=True) is Decision.RECORD


def test_an_error_that_nobody_has_named_is_the_nodes():
    assert fault_of("OSError") is Fault.NODE


@pytest.mark.parametrize("error_type", ["WorkerDied", "PolicyTimeout", "EpisodeTimeout", "PolicyServerDied"])
def test_infrastructure_gets_its_attempts(error_type):
    assert [decide(error_type, attempt, 3) for attempt in (1, 2, 3)] == [
        Decision.RETRY,
        Decision.RETRY,
        Decision.RECORD,
    ]


@pytest.mark.parametrize("error_type", ["NodeError", "LedgerError", "PolicyServerLost"])
def test_what_every_later_episode_would_meet_ends_the_run(error_type):
    assert decide(error_type, 1, 3) is Decision.ABORT


def test_the_names_are_those_of_the_exceptions():
    known = {name for name in vars(faults) if isinstance(getattr(faults, name), type)}
    known |= {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    assert set(FAULTS) - known == {"NodeLost"}, "which is no exception: a node that left the cluster"
