"""With no delay every clock equals the synchronous one, to the trajectory's hash: real policies, the real simulator."""

from __future__ import annotations

import pytest

from harness.clocks import VIRTUAL, DelaySamples, DelaySource, Timing
from harness.policies.registry import make_policy
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.spec import parse_policy
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import sim_config
from harness.worlds.registry import get_world

PROTOCOL = Protocol.model_validate({"preset": "lerobot", "max_steps": {"libero_spatial": 24}, "replan_interval": 8})
IN_NO_TIME = DelaySource("constant:0ms", any_variant=DelaySamples.constant(0))


@pytest.mark.parametrize("name", ["scripted", "flow"])
def test_a_real_episode_without_delay_is_the_same_under_every_clock(name):
    policy = make_policy(parse_policy(name))
    config = sim_config(PROTOCOL, policy.info.cameras, privileged=policy.info.privileged)
    sim = get_world("libero").make("libero_spatial", 0, config)
    nfe = 2 if policy.info.nfe_options else None
    unit = EpisodeUnit(
        name, nfe, "libero_spatial", 0, 0, 0, episode_key("ab" * 32, "libero_spatial", 0, 0, 0), "ab" * 32
    )
    alarm, clock = Alarm(), WallTime()
    try:
        found, told_of, motion = {}, {}, None
        for timed in VIRTUAL:
            timing = Timing() if timed == "synchronous" else Timing(timed, IN_NO_TIME)
            decider = LocalDecider(policy, alarm, clock)
            limits = Limits()
            # One of them keeps its motion, which changes nothing either.
            told_of[timed] = [] if timed == "blocking" else None
            result = run_episode(
                sim,
                decider,
                unit,
                PROTOCOL,
                policy.info,
                clock=clock,
                limits=limits,
                timing=timing,
                recorder=told_of[timed],
            )
            assert result.error_message is None
            motion = result.motion or motion
            found[timed] = (result.trajectory_sha256, result.steps, len(result.decisions), result.jerk_m_s3)
        assert len(set(found.values())) == 1
        assert found["blocking"][3] > 0
        assert len(motion.x_m) == len(motion.z_m) == len(motion.gripper) == found["blocking"][1]
        assert motion.gripper == [float(action[6]) for action in told_of["blocking"]]
        assert 0.9 < motion.z_m[-1] < 1.5, "above the table, metres"
    finally:
        sim.close()
        alarm.close()
