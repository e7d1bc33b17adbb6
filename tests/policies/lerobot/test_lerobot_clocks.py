"""A LeRobot policy under the clocks."""

from __future__ import annotations

from typing import Any

import pytest

from harness.clocks import CLOCK_OF, VIRTUAL, DelaySamples, DelaySource, Timing
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim


def trajectory(policy: Any, timing: Timing) -> tuple[str | None, int, int]:
    """One episode of the stub world."""
    unit = EpisodeUnit("p", None, "stub", 0, 0, 0, episode_key("ab" * 32, "stub", 0, 0, 0), "ab" * 32)
    sim = StubSim("stub", 0, SimConfig(resolution=64, cameras=policy.info.cameras))
    protocol = Protocol.model_validate({"preset": "stub", "max_steps": {"stub": 12}})
    alarm, clock = Alarm(), WallTime()
    try:
        decider = LocalDecider(policy, alarm, clock)
        result = run_episode(sim, decider, unit, protocol, policy.info, clock=clock, limits=Limits(), timing=timing)
    finally:
        alarm.close()
    assert result.error_message is None
    return result.trajectory_sha256, result.steps, len(result.decisions)


@pytest.mark.parametrize("policy_type", ["act", "smolvla"])
def test_a_lerobot_policy_without_delay_is_the_same_under_every_clock(save: Any, load: Any, policy_type: str) -> None:
    policy = load(save(policy_type))
    none = DelaySource("constant:0ms", any_variant=DelaySamples.constant(0))
    plain = trajectory(policy, Timing())
    assert plain[2] > 1
    for clock in VIRTUAL:
        assert trajectory(policy, Timing(clock, none)) == plain or (CLOCK_OF[clock].freezes and not policy.info.rtc)


@pytest.mark.parametrize("policy_type", ["pi05", "smolvla"])
def test_an_episode_under_rtc_is_repeatable_and_moves_otherwise(save: Any, load: Any, policy_type: str) -> None:
    policy = load(save(policy_type))
    source = DelaySource("constant:100ms", any_variant=DelaySamples.constant(100))
    asynchronous, rtc, again = (trajectory(policy, Timing(clock, source)) for clock in ("asynchronous", "rtc", "rtc"))
    assert rtc == again
    assert rtc[0] != asynchronous[0]
    assert rtc[1:] == asynchronous[1:]
