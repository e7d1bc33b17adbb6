"""The stub world answers LIBERO's contract at no cost."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import UsageError
from harness.worlds import SimConfig, Simulator, World, get_world
from harness.worlds.stub import SUITES, StubSim, StubWorld, target

ONES = np.ones(7, np.float32)


def steps_to_success(sim: StubSim, init_state_id: int) -> int:
    sim.reset(init_state_id, observe=False)
    for step in range(1, 100):
        if sim.step(ONES).success:
            return step
    raise AssertionError("never succeeded")


def test_it_answers_both_contracts() -> None:
    world = get_world("stub")
    assert isinstance(world, World)
    assert isinstance(world.make("stub", 0, SimConfig()), Simulator)


def test_it_has_two_suites_of_ten_tasks_and_fifty_init_states() -> None:
    world = StubWorld()
    assert world.suites() == ("stub", "stub_slow")
    for suite in world.suites():
        assert world.describe(suite).n_init_states == (50,) * 10


def test_an_episode_succeeds_exactly_when_the_actions_reach_its_target() -> None:
    for task, init in ((0, 0), (3, 17), (9, 49)):
        assert steps_to_success(StubSim("stub", task, SimConfig()), init) == target(task, init)


def test_targets_differ_between_episodes_and_are_the_same_every_time() -> None:
    targets = {(task, init): target(task, init) for task in range(10) for init in range(50)}
    assert len(set(targets.values())) == 20
    assert min(targets.values()) == 3
    sim = StubSim("stub", 4, SimConfig())
    assert steps_to_success(sim, 8) == steps_to_success(sim, 8)


def test_zeros_never_succeed() -> None:
    sim = StubSim("stub", 0, SimConfig())
    sim.reset(0)
    assert not any(sim.step(np.zeros(7, np.float32)).success for _ in range(500))


def test_only_the_slow_suite_sleeps_and_counts_it_as_physics() -> None:
    slept: list[float] = []
    for suite in SUITES:
        sim = StubSim(suite, 0, SimConfig(), sleep=slept.append)
        sim.reset(0)
        sim.step(ONES)
        assert sim.timings.physics_s > 0
    assert slept == [SUITES["stub_slow"]]


def test_observations_carry_what_was_asked_for() -> None:
    sim = StubSim("stub", 1, SimConfig(resolution=16, cameras=("agentview",), privileged=True))
    observation = sim.reset(2, episode_key="k")
    assert observation is not None
    assert observation.images["agentview"].shape == (16, 16, 3)
    assert observation.episode_key == "k"
    assert observation.privileged["target"][0] == target(1, 2)
    assert sim.step(ONES, observe=True).observation.state[0] == 1  # type: ignore[union-attr]
    assert sim.frame("agentview", 8).min() != sim.frame("agentview", 8).max()


def test_unknown_names_and_numbers_are_refused() -> None:
    world = StubWorld()
    with pytest.raises(UsageError, match="Did you mean 'stub_slow'"):
        world.describe("stub_slo")
    with pytest.raises(UsageError, match="tasks 0 to 9"):
        world.make("stub", 10, SimConfig())
    with pytest.raises(UsageError, match="0 to 49"):
        StubSim("stub", 0, SimConfig()).reset(50)
    with pytest.raises(UsageError, match="shape"):
        StubSim("stub", 0, SimConfig()).step(np.zeros(6, np.float32))


def test_an_unknown_world_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown world 'libro'\. Did you mean 'libero'\?"):
        get_world("libro")
