"""Retry decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.rollout import faults
from harness.schedule.retry import DETERMINISTIC, FATAL, Decision, decide

NAMES = st.one_of(st.sampled_from(sorted(DETERMINISTIC | FATAL)), st.text(max_size=20))


@given(NAMES, st.integers(1, 10))
def test_retries_are_bounded_whatever_the_error(error_type, max_attempts):
    attempts = 1
    while decide(error_type, attempts, max_attempts) is Decision.RETRY:
        attempts += 1
    assert attempts <= max_attempts


@pytest.mark.parametrize("error_type", ["PolicyActionError", "PolicyRaised", "RenderError"])
def test_what_keyed_noise_would_reproduce_is_not_tried_again(error_type):
    assert decide(error_type, 1, 3) is Decision.RECORD


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
    assert {"PolicyActionError", "PolicyRaised", "PolicyServerLost", "PolicyTimeout", "WorkerDied"} <= known
