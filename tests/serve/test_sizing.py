"""Batch size and wait, chosen from measured batches."""

from __future__ import annotations

import numpy as np
import pytest
from served_policies import Served

from harness.errors import UsageError
from harness.policies.registry import make_policy
from harness.serve.sizing import BatchPlan, asked_for, measure_batches, plan_batches
from harness.spec import parse_policy
from harness.spec.observation import CAMERAS, ActionChunks, PolicyInfo


class Timed:
    """A policy whose batches take what a formula says, by a clock that only it moves."""

    def __init__(self, seconds, **info) -> None:  # noqa: D107
        self.info = PolicyInfo("timed", **{"noise_shape": (2,), "cameras": CAMERAS, **info})
        self.formula = seconds
        self.now = 0.0
        self.asked: list[int] = []

    def act(self, observations, noise, *, nfe=None):
        assert noise.shape == (len(observations), 2)
        assert set(observations[0].images) == set(CAMERAS)
        self.asked.append(len(observations))
        self.now += self.formula(len(observations))
        return ActionChunks(np.zeros((len(observations), 1, 7), np.float32))

    def seconds(self) -> float:
        return self.now


def test_sizes_double_until_more_does_not_pay():
    policy = Timed(lambda size: 0.01 + 0.01 * max(size - 8, 0))
    assert sorted(measure_batches(policy, clock=policy, largest=64)) == [1, 2, 4, 8, 16, 32]


def test_the_first_call_of_a_size_warms_it_up():
    policy = Timed(lambda size: 5.0 if policy.asked.count(size) == 1 else 0.01)
    assert measure_batches(policy, clock=policy, largest=1) == {1: pytest.approx(0.01)}


def test_measuring_ends_when_it_takes_long_and_keeps_to_the_policys_limit():
    slow = Timed(lambda size: 60.0)
    assert plan_batches(slow, clock=slow).max_batch == 64
    assert set(slow.asked) == {1}
    free = Timed(lambda size: 0.01, max_batch=4)
    assert plan_batches(free, clock=free).max_batch == 4
    assert max(free.asked) == 4


def test_a_size_that_does_not_fit_into_memory_is_not_chosen():
    def seconds(size):
        if size > 4:
            raise MemoryError
        return 0.01

    policy = Timed(seconds)
    plan = plan_batches(policy, clock=policy)
    assert (plan.max_batch, sorted(plan.measured_ms)) == (4, [1, 2, 4])


@pytest.mark.parametrize("info", [{"max_batch": 1}, {"privileged": True}])
def test_nothing_is_measured_where_nothing_can_be(info):
    policy = Timed(lambda size: 0.01, **info)
    assert "not measured" in plan_batches(policy, clock=policy).why or info == {"max_batch": 1}
    assert policy.asked == []


def test_what_was_asked_for_holds():
    policy = Timed(lambda size: 0.01)
    assert plan_batches(policy, clock=policy, max_batch=3, max_wait_s=0.25) == BatchPlan(3, 0.25, why="as asked")
    assert policy.asked == []
    assert plan_batches(policy, clock=policy, max_batch=4).max_batch == 4
    assert plan_batches(policy, clock=policy, max_wait_s=0.25).max_wait_s == 0.25
    assert plan_batches(policy, clock=policy, max_batch=500, max_wait_s=0.0).max_batch == policy.info.max_batch


def test_every_policy_takes_serving_options_and_its_factory_never_sees_them():
    spec = parse_policy("noop?max_batch=4&max_wait_ms=2.5")
    assert asked_for(spec.options) == (4, 0.0025)
    assert make_policy(spec).info.policy_id == "noop"
    assert asked_for(parse_policy("noop").options) == (None, None)


@pytest.mark.parametrize(
    "option", ["max_batch=0", "max_batch=1.5", "max_batch=true", "max_wait_ms=-1", "max_wait_ms=x"]
)
def test_serving_options_are_checked(option):
    with pytest.raises(UsageError, match=f"policy option: {option.split('=')[0]} is"):
        asked_for(parse_policy(f"noop?{option}").options)


def test_a_plan_is_plain_data_for_the_ledger():
    record = plan_batches(Served(), clock=Timed(lambda size: 0.0)).record()
    assert set(record) == {"max_batch", "max_wait_ms", "why", "measured_ms"}
