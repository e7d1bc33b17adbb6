"""Episodes on the wall clock: whatever the machine's speed, they are what virtual time makes of the delays they had."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from stub_policies import FunctionPolicy, make_unit

from harness.clocks import DelaySamples, DelaySource, Timing, delay_steps
from harness.errors import PolicyError
from harness.rollout.faults import PolicyTimeout
from harness.spec.suite import Limits
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim

PREDICTED = DelaySource("constant:130ms", any_variant=DelaySamples.constant(130.0))
WALL = Timing("wall", PREDICTED)


class InOrder(DelaySource):
    """Delays of one episode, decision by decision."""

    def draw(self, variant, episode_key, decision):
        del variant, episode_key
        return self.any_variant.draw("00" * 32, 0)._replace(ms=float(self.any_variant.launches[0][decision]))


def waiting(ms, length, **info):
    """A policy that takes its time, and whose actions depend on what it saw."""

    def act(seen, noise):
        time.sleep(ms[seen.decision % len(ms)] / 1e3)
        chunk = np.full((length, 7), 0.001 * (1 + seen.decision), dtype=np.float32)
        chunk[:, 1] = np.arange(length) / 100
        return chunk + np.float32(seen.state[0] / 100) + np.float32(len(seen.history) / 1000)

    return FunctionPolicy(act, chunk_length=length, **info)


@pytest.mark.parametrize(
    ("length", "interval", "look_back", "ms"),
    [(10, 10, 1, [20, 130, 20]), (8, 3, 3, [60, 5]), (4, 4, 2, [330]), (3, 1, 1, [0])],
)
def test_it_executes_what_virtual_time_does_with_the_delays_that_there_were(play, length, interval, look_back, ms):
    info = {"replan_interval": interval, "observation_steps": look_back}
    actions: list[np.ndarray] = []
    steps = {"max_steps": {"stub": 25}}
    wall = play(waiting(ms, length, **info), timing=WALL, recorder=actions, **steps)
    had = wall.decisions
    assert (wall.error_message, wall.outcome, wall.steps) == (None, "timeout", 25)
    assert all(delay >= ms[i % len(ms)] for i, delay in enumerate(had.delay_ms))
    assert all(steps >= 1 for steps in had.delay_steps)
    if wall.overruns == 0:
        assert had.delay_steps == [delay_steps(delay, 20) for delay in had.delay_ms]
    # The same delays, in whole steps: what was executed is theirs, on a machine of any speed.
    replayed = InOrder("had", any_variant=DelaySamples((np.array(had.delay_steps) * 50.0,)))
    virtual_actions: list[np.ndarray] = []
    virtual = play(
        waiting([0], length, **info), timing=Timing("asynchronous", replayed), recorder=virtual_actions, **steps
    )
    np.testing.assert_array_equal(actions, virtual_actions)
    assert wall.trajectory_sha256 == virtual.trajectory_sha256
    assert (wall.stale_steps, wall.hold_steps, len(had)) == (
        virtual.stale_steps,
        virtual.hold_steps,
        len(virtual.decisions),
    )
    assert (wall.energy_j, virtual.overruns) == (None, None)


def test_steps_last_their_period_and_those_that_take_longer_are_counted(play):
    began = time.perf_counter()
    result = play(waiting([0], 5, replan_interval=5), timing=WALL, max_steps={"stub": 8})
    assert time.perf_counter() - began >= 8 / 20
    assert result.sim_s == 0.4
    slow = StubSim("stub_slow", 0, SimConfig(), sleep=lambda seconds: time.sleep(0.06))
    late = play(waiting([0], 5, replan_interval=5), sim=slow, timing=WALL, max_steps={"stub": 6})
    assert (late.steps, late.overruns) == (6, 6)


def test_the_policy_forgets_the_episode_after_the_answer_that_success_overtook(play):
    order = []

    def act(seen, noise):
        time.sleep(0.2)
        order.append(f"decided {seen.decision}")
        return np.ones((30, 7), dtype=np.float32)

    policy = FunctionPolicy(act, chunk_length=30, replan_interval=6)
    forget = policy.end_episode
    policy.end_episode = lambda key: (order.append("ended"), forget(key))
    unit = make_unit(task_id=5, init_state_id=1)
    result = play(policy, unit=unit, timing=WALL)
    assert result.outcome == "success"
    assert order[-1] == "ended"
    assert len(result.decisions) == len(order) - 1
    assert policy.ended == [unit.episode_key]


def test_a_policy_that_fails_or_does_not_answer_is_an_error_and_nothing_hangs(play):
    def broken(seen, noise):
        raise PolicyError("no")

    failed = play(FunctionPolicy(broken, chunk_length=5), timing=WALL)
    assert (failed.outcome, failed.error_type) == ("error", "PolicyRaised")
    slow = play(waiting([400], 5), timing=WALL, limits=Limits(decision_s=0.1), max_steps={"stub": 40})
    assert (slow.outcome, slow.error_type) == ("error", PolicyTimeout.__name__)
    last = play(waiting([400], 5), timing=WALL, limits=Limits(decision_s=0.1), max_steps={"stub": 1})
    assert (last.outcome, last.error_type) == ("error", PolicyTimeout.__name__)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("asks-the-policy")]
