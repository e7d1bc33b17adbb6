"""The negative controls: what they do, and that it solves nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from harness.errors import PolicyError
from harness.policies.base import Policy
from harness.policies.controls import NoopPolicy, RandomPolicy
from harness.schedule.keys import decision_noise
from harness.sim import LiberoSim
from harness.spec.observation import Observation
from harness.worlds.base import SimConfig

MAX_STEPS = 280
BLIND = Observation(instruction="", state=np.zeros(8, dtype=np.float32))
KEY = "5b" * 32


def noise_of(decision: int, key: str = KEY) -> NDArray[np.float32]:
    assert RandomPolicy.info.noise_shape is not None
    return decision_noise(key, decision, RandomPolicy.info.noise_shape)[np.newaxis]


def test_noop_holds_still_with_an_open_gripper() -> None:
    actions = NoopPolicy().act([BLIND, BLIND], None).actions
    assert actions.shape == (2, NoopPolicy.info.chunk_length, 7)
    assert actions.dtype == np.float32
    assert (actions == np.array([0, 0, 0, 0, 0, 0, -1])).all()


def test_random_is_uniform_over_every_component_of_the_action_range() -> None:
    chunks = np.concatenate([RandomPolicy().act([BLIND], noise_of(decision)).actions for decision in range(300)])
    assert chunks.shape == (300, RandomPolicy.info.chunk_length, 7)
    assert np.abs(chunks).max() <= 1
    for component in range(7):
        values = chunks[:, :, component].ravel()
        assert stats.kstest(values, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_random_depends_on_the_key_and_the_decision_and_nothing_else() -> None:
    policy = RandomPolicy()
    first = policy.act([BLIND], noise_of(0)).actions
    other = policy.act([BLIND], noise_of(1)).actions
    batch = policy.act([BLIND, BLIND], np.concatenate([noise_of(1), noise_of(0)])).actions
    assert (batch[0] == other[0]).all()
    assert (batch[1] == first[0]).all()
    assert not (first == other).any()
    assert not (RandomPolicy().act([BLIND], noise_of(0, "c3" * 32)).actions == first).any()


@pytest.mark.parametrize("noise", [None, np.zeros((1, 10, 6), np.float32), np.zeros((2, 10, 7), np.float32)])
def test_random_refuses_noise_of_another_shape(noise: NDArray[np.float32] | None) -> None:
    with pytest.raises(PolicyError, match=r"random got noise of shape .*, expected \(1, 10, 7\)"):
        RandomPolicy().act([BLIND], noise)


@pytest.mark.parametrize("policy", [NoopPolicy(), RandomPolicy()], ids=lambda policy: policy.info.policy_id)
def test_a_control_reads_nothing_that_has_to_be_rendered(policy: Policy) -> None:
    assert policy.info.cameras == ()
    assert not policy.info.privileged
    assert policy.info.placement == "worker"


@pytest.mark.parametrize("policy", [NoopPolicy(), RandomPolicy()], ids=lambda policy: policy.info.policy_id)
def test_a_control_solves_no_episode(policy: Policy) -> None:
    sim = LiberoSim("libero_spatial", 2, config=SimConfig())
    observation = sim.reset(0, episode_key=KEY)
    assert observation is not None
    success = False
    for decision in range(MAX_STEPS // policy.info.chunk_length):
        noise = None if policy.info.noise_shape is None else noise_of(decision)
        for action in policy.act([observation], noise).actions[0]:
            success |= sim.step(action).success
    sim.close()
    assert not success
