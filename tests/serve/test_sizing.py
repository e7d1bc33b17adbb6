"""Batch size and wait, chosen from measured batches."""

from __future__ import annotations

import numpy as np
import pytest
from served_policies import Served

from harness.errors import UsageError
from harness.policies.registry import make_policy
from harness.serve.sizing import (
    Awaited,
    BatchPlan,
    asked_for,
    measure_batches,
    plan_batches,
    prepare_serving,
    settle_graphs,
)
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


class Records(Timed):
    """Records each (batch size, NFE) at its first call, which takes 2 s; as a policy with CUDA graphs does."""

    records_sizes = True

    def __init__(self, limit=64, **info) -> None:  # noqa: D107
        super().__init__(lambda size: 0.01, nfe_options=(1, 2, 10), default_nfe=10, **info)
        self.limit = limit
        self.recorded: list[tuple[int, int]] = []

    def act(self, observations, noise, *, nfe=None):
        key = len(observations), nfe or 10
        if key[0] > self.limit:
            raise MemoryError("out of memory")
        if key not in self.recorded:
            self.recorded.append(key)
            self.now += 2.0
        return super().act(observations, noise, nfe=nfe)


def test_every_size_that_a_batch_can_have_is_recorded_before_the_first_decision_and_its_cost_is_said():
    policy = Records()
    plan = prepare_serving(policy, clock=policy, max_batch=6, max_wait_s=0.0, awaited=Awaited((1, 10)))
    assert plan.sizes == (1, 2, 4, 6)
    assert set(policy.recorded) == {(size, nfe) for size in (1, 2, 4, 6) for nfe in (1, 10)}
    assert plan.prepared_s == pytest.approx(16, abs=1)
    assert plan.told == "batches of 1, 2, 4, 6 recorded as CUDA graphs in 16.1 s"
    assert plan.record()["prepared"] == plan.told


@pytest.mark.parametrize(("rtc", "continued"), [(True, True), (True, False), (False, True)])
def test_chunks_that_continue_old_ones_are_recorded_ahead_where_they_will_be_asked_for(rtc, continued):
    policy, kinds = Records(rtc=rtc), set()
    act = policy.act
    policy.act = lambda seen, noise, *, nfe=None: kinds.add(seen[0].previous is not None) or act(seen, noise, nfe=nfe)
    prepare_serving(policy, clock=policy, max_batch=2, max_wait_s=0.0, awaited=Awaited(continued=continued))
    assert kinds == ({False, True} if rtc and continued else {False})


def test_graphs_whose_guided_answers_differ_are_not_replayed():
    class Guided(Graphs):
        def act(self, observations, noise, *, nfe=None):
            self.shift = 0.5 if observations[0].previous is not None else 0.0
            return super().act(observations, noise)

    assert settle_graphs(Guided()) == "on: answers are equal to the bit"
    assert settle_graphs(Guided(), continued=True) == "off: answers differ by up to 0.5"


def test_no_larger_batch_is_served_than_was_recorded():
    small = Records(limit=4)
    plan = prepare_serving(small, clock=small, max_batch=16, max_wait_s=0.0)
    assert (plan.max_batch, plan.sizes) == (4, (1, 2, 4))
    assert "a batch of 8 failed: out of memory" in plan.told
    slow = Records()
    slow.formula = lambda size: 10.0 * size
    assert prepare_serving(slow, clock=slow, max_batch=64, max_wait_s=0.0).max_batch == 4


def test_a_policy_that_takes_batches_as_they_come_is_left_alone():
    policy, other = Timed(lambda size: 0.01), Timed(lambda size: 0.01)
    assert prepare_serving(policy, clock=policy) == plan_batches(other, clock=other)


class Graphs(Timed):
    """Can replay graphs, which change its answers by `shift` or cannot be recorded."""

    device = type("Device", (), {"type": "cuda"})

    def __init__(self, shift=0.0, fault=None, asked=None) -> None:  # noqa: D107
        super().__init__(lambda size: 0.01)
        self.shift, self.fault, self.graphs_asked, self.records_sizes = shift, fault, asked, False

    def use_graphs(self):
        self.records_sizes = True

    def drop_graphs(self):
        self.records_sizes = False

    def act(self, observations, noise, *, nfe=None):
        if self.records_sizes and self.fault is not None:
            raise self.fault
        return ActionChunks(super().act(observations, noise).actions + self.shift * self.records_sizes)


@pytest.mark.parametrize(
    ("policy", "uses", "said"),
    [
        (Graphs(), True, "on: answers are equal to the bit"),
        (Graphs(shift=1e-7), False, "off: answers differ by up to 1e-07"),
        (Graphs(fault=RuntimeError("not permitted")), False, "off: not permitted"),
        (Graphs(asked=False), False, ""),
    ],
    ids=["equal", "not equal", "cannot be recorded", "asked not to"],
)
def test_graphs_are_replayed_where_nobody_said_whether_to_if_answers_stay_equal(policy, uses, said):
    assert settle_graphs(policy) == said
    assert policy.records_sizes == uses


@pytest.mark.parametrize(("asked", "kept"), [(None, False), (True, True)], ids=["our choice", "asked for"])
def test_graphs_of_which_no_size_can_be_recorded_are_given_up_unless_asked_for(asked, kept, monkeypatch):
    policy = Graphs(fault=RuntimeError("not permitted"), asked=asked)
    # They were recorded once, to be compared, and cannot be again.
    monkeypatch.setattr("harness.serve.sizing.settle_graphs", lambda policy, **_: policy.use_graphs() or "on")
    plan = prepare_serving(policy, clock=policy)
    assert "a batch of 1 failed: not permitted" in plan.graphs
    assert (plan.sizes, policy.records_sizes) == ((), kept)
