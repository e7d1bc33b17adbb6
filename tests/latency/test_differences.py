"""Specification of how answers of a variant are held to those of its reference."""

from __future__ import annotations

import numpy as np
import pytest
from probe_stubs import Sleepy

from harness.latency import synthetic_observations
from harness.latency.differences import DECISIONS, answer, compare
from harness.spec.likeness import is_far

RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.standard_normal((4, 1, 5, 7)).astype(np.float32)


def test_equal_answers_do_not_differ() -> None:
    difference = compare(REFERENCE, REFERENCE)
    assert difference.cosine == pytest.approx(1)
    assert (difference.max_abs, difference.rms) == (0, 0)
    assert not is_far(difference.cosine, difference.rms, difference.observation_rms)


def test_the_decision_that_is_least_alike_decides_the_cosine() -> None:
    candidate = REFERENCE.copy()
    candidate[2] *= -1
    assert compare(REFERENCE, candidate).cosine == pytest.approx(-1)


def test_the_largest_and_the_mean_difference_are_in_the_action_s_units() -> None:
    candidate = REFERENCE.copy()
    candidate[1, 0, 3, 4] += 0.5
    difference = compare(REFERENCE, candidate)
    assert difference.max_abs == pytest.approx(0.5)
    assert difference.rms == pytest.approx(0.5 / np.sqrt(REFERENCE.size))
    # Independent standard normals differ by sqrt(2).
    assert difference.observation_rms == pytest.approx(np.sqrt(2), rel=0.1)


@pytest.mark.parametrize(
    ("cosine", "rms", "observation_rms", "far"),
    [
        (0.9999, 0.01, 1.0, False),
        (0.99, 0.01, 1.0, True),
        # Almost parallel, yet a third of what the observation decides: the noise alone makes the answers alike.
        (0.9999, 0.3, 1.0, True),
        (float("nan"), 0.0, 1.0, True),
        (0.9999, float("nan"), 1.0, True),
        (1.0, 0.0, 0.0, False),
        (1.0, 0.1, float("nan"), False),
    ],
)
def test_a_variant_is_marked_when_its_answers_are_another_policy_s(
    cosine: float, rms: float, observation_rms: float, far: bool
) -> None:
    assert is_far(cosine, rms, observation_rms) is far


def test_a_broken_variant_is_marked() -> None:
    broken = np.full_like(REFERENCE, np.nan)
    difference = compare(REFERENCE, broken)
    assert is_far(difference.cosine, difference.rms, difference.observation_rms)


def test_all_decisions_start_from_the_same_noise_and_see_different_observations() -> None:
    policy = Sleepy(lambda seconds: None)
    answers = answer(policy, synthetic_observations(3, resolution=8), nfe=2, batch_size=2)
    assert answers.shape == (DECISIONS, 2, 2, 7)
    first, *others = policy.noises
    assert first is not None
    assert all(other is not None and np.array_equal(first, other) for other in others)
    assert len({id(batch[0]) for batch in policy.batches}) > 1
