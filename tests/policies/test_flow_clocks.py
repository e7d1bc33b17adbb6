"""`flow` with chunks as long as Pi0.5's under the clocks: what a slow device leaves of them is executed."""

from __future__ import annotations

import numpy as np
import pytest

from harness.clocks import DelaySamples, DelaySource, Timing
from harness.policies.flow.checkpoint import random_network
from harness.policies.flow.network import FlowConfig
from harness.policies.flow.policy import FlowPolicy
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import SimConfig, StepResult
from harness.worlds.stub import StubSim

STEPS = 100


class Endless(StubSim):
    def step(self, action, observe=False):
        return StepResult(False, False, super().step(action, observe).observation)


@pytest.fixture(scope="module")
def flow() -> FlowPolicy:
    policy = FlowPolicy(random_network(FlowConfig(chunk_length=50, replan_interval=10), 0), device="cpu")
    act = policy.act
    policy.told = []

    def noted(observations, noise, *, nfe=None):
        policy.told += [seen.previous for seen in observations]
        return act(observations, noise, nfe=nfe)

    policy.act = noted
    return policy


def play(policy, clock, ms, nfe=1):
    key = episode_key("ab" * 32, "stub", 0, 0, 0)
    unit = EpisodeUnit("flow", nfe, "stub", 0, 0, 0, key, "ab" * 32)
    sim = Endless("stub", 0, SimConfig(resolution=64, cameras=policy.info.cameras))
    protocol = Protocol.model_validate({"preset": "stub", "max_steps": {"stub": STEPS}, "replan_interval": None})
    timing = Timing(clock, DelaySource("d", any_variant=DelaySamples.constant(ms)))
    alarm, time, actions = Alarm(), WallTime(), []
    policy.told.clear()
    try:
        decider = LocalDecider(policy, alarm, time)
        result = run_episode(
            sim, decider, unit, protocol, policy.info, clock=time, limits=Limits(), timing=timing, recorder=actions
        )
    finally:
        alarm.close()
    assert (result.error_message, result.outcome) == (None, "timeout")
    return result, np.array(actions)


@pytest.mark.parametrize(("ms", "delay", "every"), [(100, 2, 10), (800, 16, 16), (1300, 26, 26)])
def test_a_chunk_of_fifty_steps_outlasts_a_slow_device(flow, ms, delay, every):
    result, _ = play(flow, "asynchronous", ms)
    assert set(result.decisions.delay_steps) == {delay}
    assert len(result.decisions) == -(-STEPS // every)
    # The robot holds before the first chunk is in hand, and where the old one runs out before the new one is.
    assert result.hold_steps == delay + max(every + delay - 50, 0) * (STEPS // every - 1)


def test_rtc_freezes_what_goes_on_during_a_long_decision(flow):
    rtc, moved = play(flow, "rtc", 1300, nfe=4)
    assert [None if old is None else (len(old.actions), old.frozen) for old in flow.told] == [
        None,
        *[(24, 24)] * (len(rtc.decisions) - 1),
    ]
    plain, otherwise = play(flow, "asynchronous", 1300, nfe=4)
    assert (rtc.steps, rtc.hold_steps, len(rtc.decisions)) == (plain.steps, plain.hold_steps, len(plain.decisions))
    # The second chunk takes over at step 52; until then both have executed the first.
    np.testing.assert_array_equal(moved[:52], otherwise[:52])
    assert not np.array_equal(moved, otherwise)


def test_with_a_short_delay_rtc_freezes_it_and_is_guided_by_the_rest(flow):
    play(flow, "rtc", 150)
    assert [(len(old.actions), old.frozen) for old in flow.told if old is not None] == [(40, 3)] * 9
