"""Specification of warm-up and stopping."""

from __future__ import annotations

import random
from statistics import median

import pytest
from pydantic import ValidationError

from harness.latency.convergence import is_enough, is_warm, unmet
from harness.spec.budget import Budget
from harness.spec.policy import PolicySpec
from harness.spec.suite import ProbePlan


def test_it_is_warm_when_three_windows_agree() -> None:
    assert is_warm([1.0, 1.01, 1.0, 1.01, 1.02, 1.0], window=2, tolerance=0.05)


def test_it_is_not_warm_while_the_windows_still_fall() -> None:
    assert not is_warm([2.0, 2.0, 1.5, 1.5, 1.0, 1.0], window=2, tolerance=0.05)


def test_only_the_last_three_windows_count() -> None:
    assert is_warm([50.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], window=2, tolerance=0.01)


def test_one_slow_call_within_a_window_does_not_keep_it_cold() -> None:
    assert is_warm([1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], window=3, tolerance=0.01)


def test_scatter_that_a_busy_machine_adds_does_not_keep_it_cold() -> None:
    rng = random.Random(0)
    noisy = [[10 * (1 + rng.expovariate(3)) for _ in range(15)] for _ in range(200)]
    assert sum(is_warm(calls, window=5, tolerance=0.03) for calls in noisy) > 120
    # … as they would within the tolerance alone.
    assert sum(max(m) <= 1.03 * min(m) for m in ([median(c[n : n + 5]) for n in (0, 5, 10)] for c in noisy)) < 20


@pytest.mark.parametrize("fall", [0.1, 0.5, 3.0])
def test_a_latency_that_still_falls_is_not_taken_for_scatter(fall: float) -> None:
    """A clock that rises, steadily or in one go, with a little noise on top."""
    rng = random.Random(1)
    steady = [1 + fall * (1 - n / 14) + 0.01 * rng.random() for n in range(15)]
    sudden = [1 + fall * (n < 5) + 0.01 * rng.random() for n in range(15)]
    assert not is_warm(steady, window=5, tolerance=0.03)
    assert not is_warm(sudden, window=5, tolerance=0.03)


def test_nothing_is_warm_before_three_whole_windows() -> None:
    assert not is_warm([1.0] * 5, window=2, tolerance=0.1)
    assert not is_warm([1.0] * 7, window=2, tolerance=0.1)


@pytest.mark.parametrize(
    ("seconds", "samples", "enough", "missing"),
    [
        (10.0, 50, True, None),
        (9.9, 500, False, "min_seconds 10: 9.90 s measured"),
        (50.0, 49, False, "min_samples 50: 49 taken"),
        (100.0, 49, True, "min_samples 50: 49 taken"),
    ],
)
def test_measuring_ends_on_time_and_count_or_at_the_cap_which_names_what_is_missing(
    seconds: float, samples: int, enough: bool, missing: str | None
) -> None:
    budget = Budget(min_seconds=10, min_samples=50, max_seconds=100)
    assert is_enough(budget, seconds, samples) is enough
    assert unmet(budget, seconds, samples) == missing


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_samples": 0},
        {"min_seconds": -1.0},
        {"min_seconds": 10.0, "max_seconds": 5.0},
        {"warmup_window": 0},
        {"warmup_tolerance": 0.0},
    ],
)
def test_a_budget_that_cannot_be_met_is_refused_with_its_value(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Budget(**wrong)  # type: ignore[arg-type]


def test_a_budget_that_says_no_end_ends_no_sooner_than_it_may() -> None:
    assert Budget(min_seconds=400).max_seconds == 400
    assert Budget().max_seconds == 300


def test_a_plan_takes_its_budget_by_name_or_beside_it_as_suites_of_before_do() -> None:
    nested = ProbePlan.model_validate({"policies": ["flow"], "budget": {"min_seconds": 3, "min_samples": 7}})
    beside = ProbePlan.model_validate({"policies": ["flow"], "min_seconds": 3, "min_samples": 7})
    assert nested == beside == ProbePlan(policies=(PolicySpec(kind="flow"),), budget=nested.budget)
    assert (nested.budget.min_seconds, nested.budget.min_samples) == (3, 7)
