"""Real simulators of the stub world."""

from __future__ import annotations

import pytest
from stub_policies import make_unit

from harness.clocks import IN_NO_TIME
from harness.policies.base import Policy
from harness.rollout import Alarm, LocalDecider, WallTime, run_episode
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import sim_config
from harness.worlds.stub import StubSim


@pytest.fixture
def alarm():
    alarm = Alarm()
    yield alarm
    alarm.close()


@pytest.fixture
def play(alarm):
    """Run one stub episode with a policy; keyword arguments go to the protocol, `limits`, `sim`, `unit`, `clock`."""

    def play(
        policy: Policy, *, limits=None, sim=None, unit=None, clock=None, recorder=None, timing=IN_NO_TIME, **protocol
    ):
        clock = clock or WallTime()
        unit = unit or make_unit()
        rules = Protocol.model_validate({"preset": "stub", **protocol})
        return run_episode(
            sim or StubSim("stub", unit.task_id, sim_config(rules, policy.info.cameras, privileged=False)),
            LocalDecider(policy, alarm, clock),
            unit,
            rules,
            policy.info,
            clock=clock,
            limits=limits or Limits(),
            recorder=recorder,
            timing=timing,
        )

    return play
