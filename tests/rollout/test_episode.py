"""One episode under the synchronous clock."""

from __future__ import annotations

import hashlib
import os
import time

import numpy as np
import pytest
from stub_policies import FunctionPolicy, ManualClock, make_unit, ones

from harness.errors import PolicyServerDied, PolicyServerLost
from harness.policies.controls import RandomPolicy
from harness.schedule.keys import decision_noise
from harness.spec.observation import ActionChunks, RemoteTiming
from harness.spec.suite import Limits
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim, target


def zeros(length=1):
    return lambda seen, noise: np.zeros((length, 7), dtype=np.float32)


def test_an_episode_ends_at_the_first_step_that_meets_the_goal(play):
    result = play(FunctionPolicy(ones(4), chunk_length=4, replan_interval=4), unit=make_unit(task_id=1))
    assert target(1, 0) == 10
    assert (result.outcome, result.steps, len(result.decisions)) == ("success", 10, 3)
    assert result.sim_s == pytest.approx(10 / 20)


def test_the_protocol_says_whether_actions_are_clipped(play):
    twos = FunctionPolicy(lambda seen, noise: np.full((1, 7), 2.0, np.float32))
    unit = make_unit(task_id=1)
    relative, absolute = (play(twos, unit=unit, control_mode=mode) for mode in ("relative", "absolute"))
    assert (relative.steps, relative.clipped) == (10, 10)
    assert (absolute.steps, absolute.clipped) == (5, 0)


def test_an_episode_without_success_is_a_timeout_after_exactly_max_steps(play):
    result = play(FunctionPolicy(zeros(7), chunk_length=7, replan_interval=7), max_steps={"stub": 20})
    assert (result.outcome, result.steps, len(result.decisions)) == ("timeout", 20, 3)


@pytest.mark.parametrize(
    ("protocol", "policy", "chunk", "decisions"),
    [(None, 2, 5, 10), (4, 2, 5, 5), (10, 2, 5, 4), (None, 9, 5, 4)],
    ids=["the checkpoint's", "the protocol's", "cut to the chunk", "never beyond the chunk"],
)
def test_the_replan_interval_is_the_protocols_or_else_the_checkpoints(play, protocol, policy, chunk, decisions):
    stub = FunctionPolicy(zeros(chunk), chunk_length=chunk, replan_interval=policy)
    assert len(play(stub, replan_interval=protocol, max_steps={"stub": 20}).decisions) == decisions


def test_each_decision_gets_its_own_keyed_noise(play):
    policy = FunctionPolicy(zeros(), noise_shape=(3, 7))
    unit = make_unit()
    play(policy, unit=unit, max_steps={"stub": 5})
    assert len(policy.seen) == 5
    for k, (_, noise, _) in enumerate(policy.seen):
        np.testing.assert_array_equal(noise, decision_noise(unit.episode_key, k, (3, 7)))


def test_a_policy_sees_its_cameras_its_key_and_the_decision_and_nothing_privileged(play):
    policy = FunctionPolicy(zeros(2), chunk_length=2, replan_interval=2, cameras=("agentview",))
    shared = StubSim("stub", 0, SimConfig(16, cameras=("agentview", "robot0_eye_in_hand"), privileged=True))
    unit = make_unit()
    play(policy, sim=shared, unit=unit, max_steps={"stub": 6})
    for k, (seen, _, _) in enumerate(policy.seen):
        assert (set(seen.images), dict(seen.privileged)) == ({"agentview"}, {})
        assert (seen.decision, seen.episode_key) == (k, unit.episode_key)
        assert seen.state[2] == 2 * k


@pytest.mark.parametrize(("interval", "steps"), [(3, 1), (3, 2), (1, 3), (2, 3)])
def test_a_policy_that_looks_back_is_shown_the_consecutive_steps_before(play, interval, steps):
    policy = FunctionPolicy(
        zeros(interval),
        chunk_length=interval,
        replan_interval=interval,
        observation_steps=steps,
        cameras=("agentview",),
    )
    shared = StubSim("stub", 0, SimConfig(16, cameras=("agentview", "robot0_eye_in_hand"), privileged=True))
    play(policy, sim=shared, max_steps={"stub": 9})
    for k, (seen, _, _) in enumerate(policy.seen):
        now = k * interval
        assert [moment.state[2] for moment in (*seen.history, seen)] == list(range(max(0, now - steps + 1), now + 1))
        for moment in seen.history:
            assert (set(moment.images), dict(moment.privileged)) == ({"agentview"}, {})


def test_no_step_is_observed_for_a_history_that_nobody_looks_at(play):
    class Counting(StubSim):
        observed = 0

        def _observe(self):
            self.observed += 1
            return super()._observe()

    sim = Counting("stub", 0, SimConfig())
    play(
        FunctionPolicy(zeros(5), chunk_length=5, replan_interval=5, observation_steps=2),
        sim=sim,
        max_steps={"stub": 20},
    )
    assert sim.observed == 1 + 3 * 2


def test_privileged_state_goes_to_policies_that_declare_it(play):
    policy = FunctionPolicy(zeros(), privileged=True)
    play(policy, sim=StubSim("stub", 0, SimConfig(privileged=True)), max_steps={"stub": 1})
    assert policy.seen[0][0].privileged["target"][0] == target(0, 0)


def test_nothing_is_observed_but_what_is_decided_on(play):
    class Counting(StubSim):
        observed = 0

        def _observe(self):
            self.observed += 1
            return super()._observe()

    sim = Counting("stub", 0, SimConfig())
    result = play(FunctionPolicy(zeros(5), chunk_length=5, replan_interval=5), sim=sim, max_steps={"stub": 20})
    assert sim.observed == len(result.decisions) == 4


def test_the_requested_nfe_reaches_the_policy(play):
    policy = FunctionPolicy(zeros(), nfe_options=(1, 4), default_nfe=4)
    play(policy, unit=make_unit(nfe=1), max_steps={"stub": 1})
    assert policy.seen[0][2] == 1


def test_the_trajectory_digest_is_over_qpos_after_every_control_step(play):
    result = play(FunctionPolicy(ones()), unit=make_unit(task_id=0))
    goal = target(0, 0)
    expected = hashlib.sha256()
    for k in range(result.steps):
        expected.update(np.array([k + 1.0, goal]).tobytes())
    assert result.trajectory_sha256 == expected.hexdigest()


def test_two_runs_of_an_episode_are_identical_whatever_ran_between(play):
    sim = StubSim("stub", 2, SimConfig())
    first = play(RandomPolicy(), sim=sim, unit=make_unit(2, 7))
    play(RandomPolicy(), sim=sim, unit=make_unit(2, 8))
    again = play(RandomPolicy(), sim=sim, unit=make_unit(2, 7))
    assert (first.outcome, first.steps, first.trajectory_sha256) == (
        again.outcome,
        again.steps,
        again.trajectory_sha256,
    )


def test_actions_out_of_range_are_clipped_and_counted_when_executed(play):
    def wild(seen, noise):
        chunk = np.ones((4, 7), dtype=np.float32)
        chunk[[1, 3]] = 5.0
        return chunk

    result = play(
        FunctionPolicy(wild, chunk_length=4, replan_interval=3), unit=make_unit(task_id=1), max_steps={"stub": 9}
    )
    assert result.steps == 9
    assert result.clipped == 3
    assert result.outcome == "timeout"  # nine clipped ones do not reach ten


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_ends_the_episode_as_an_error_that_shows_it(play, value):
    def sick(seen, noise):
        chunk = np.zeros((2, 7), dtype=np.float32)
        if seen.decision == 1:
            chunk[1, 6] = value
        return chunk

    result = play(FunctionPolicy(sick, chunk_length=2, replan_interval=2))
    assert (result.outcome, result.error_type, result.steps) == ("error", "PolicyActionError", 2)
    assert f"Decision 1 returned values that are no actions: [1, 6] = {value}" in result.error_message
    assert result.trajectory_sha256 is None


def test_a_chunk_of_another_shape_is_an_error_that_names_both(play):
    result = play(FunctionPolicy(zeros(3), chunk_length=2, replan_interval=2))
    assert result.error_type == "PolicyActionError"
    assert "shape (3, 7), not (2, 7)" in result.error_message


def test_a_policy_that_raises_is_an_error_with_its_exception_and_place(play):
    def broken(seen, noise):
        raise KeyError("unnorm_key")

    result = play(FunctionPolicy(broken))
    assert (result.outcome, result.error_type) == ("error", "PolicyRaised")
    assert "KeyError: 'unnorm_key'" in result.error_message
    assert "test_episode.py" in result.error_message


def test_a_policy_that_exits_is_an_error_and_not_the_end_of_the_process(play):
    result = play(FunctionPolicy(lambda seen, noise: exit(3)))
    assert result.error_type == "PolicyRaised"


def test_a_policy_that_hangs_is_an_error_after_the_decision_limit(play):
    began = time.perf_counter()
    result = play(FunctionPolicy(lambda seen, noise: time.sleep(60)), limits=Limits(decision_s=0.2))
    assert time.perf_counter() - began < 5
    assert (result.outcome, result.error_type) == ("error", "PolicyTimeout")
    assert "did not answer decision 0 within 0.2 s" in result.error_message


def test_a_policy_cannot_swallow_its_time_limit(play):
    def stubborn(seen, noise):
        while True:
            try:
                time.sleep(60)
            except Exception:  # noqa: S112
                continue

    assert play(FunctionPolicy(stubborn), limits=Limits(decision_s=0.2)).error_type == "PolicyTimeout"


def test_an_episode_that_takes_too_long_is_an_error_that_says_where_it_was(play):
    clock = ManualClock()

    def slow(seen, noise):
        clock.advance(4.0)
        return np.zeros((1, 7), dtype=np.float32)

    result = play(FunctionPolicy(slow), clock=clock, limits=Limits(episode_s=10.0))
    assert result.error_type == "EpisodeTimeout"
    assert "after 10 s, at control step 2 of 50" in result.error_message


def test_a_decision_that_exhausts_the_episodes_time_is_the_episodes_fault(play):
    limits = Limits(decision_s=60.0, episode_s=0.2)
    assert play(FunctionPolicy(lambda seen, noise: time.sleep(30)), limits=limits).error_type == "EpisodeTimeout"


def test_a_simulator_that_raises_is_an_infrastructure_error(play):
    class Broken(StubSim):
        def step(self, action, observe=False):
            raise RuntimeError("mj_step diverged")

    result = play(FunctionPolicy(zeros()), sim=Broken("stub", 0, SimConfig()))
    assert (result.outcome, result.error_type) == ("error", "SimulatorError")
    assert "RuntimeError: mj_step diverged" in result.error_message


@pytest.mark.parametrize("function", [ones(), lambda seen, noise: 1 / 0], ids=["success", "error"])
def test_the_policy_is_told_when_its_episode_ends(play, function):
    policy, unit = FunctionPolicy(function), make_unit()
    play(policy, unit=unit)
    assert policy.ended == [unit.episode_key]


def test_times_are_told_apart(play):
    def busy(seen, noise):
        time.sleep(0.02)
        return np.zeros((10, 7), dtype=np.float32)

    result = play(FunctionPolicy(busy, chunk_length=10, replan_interval=10), max_steps={"stub": 20})
    assert 0.04 <= result.policy_wait_s < result.wall_s
    assert len(result.decisions) == 2
    assert all(20 <= ms < 1000 for ms in result.decisions.infer_ms)
    assert (result.decisions.queue_ms, result.decisions.batch_size) == ([0, 0], [1, 1])
    assert result.decisions.delay_steps == [0, 0]


def test_the_timer_of_the_process_is_left_alone_afterwards(play):
    import signal

    play(FunctionPolicy(ones()), limits=Limits(decision_s=0.05))
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    time.sleep(0.06)
    assert os.getpid()


class Unreachable(FunctionPolicy):
    """A policy elsewhere, whose machine is gone."""

    def __init__(self, error) -> None:  # noqa: D107
        super().__init__(zeros())
        self.error = error

    def act(self, observations, noise, *, nfe=None):
        raise self.error


@pytest.mark.parametrize("error", [PolicyServerDied("gone"), PolicyServerLost("gone for good")])
def test_a_lost_server_is_told_from_a_policy_that_raises(play, error):
    result = play(Unreachable(error))
    assert (result.outcome, result.error_type, result.error_message) == ("error", type(error).__name__, str(error))


def test_the_time_of_a_policy_elsewhere_is_split_as_it_says(play):
    class Elsewhere(FunctionPolicy):
        def act(self, observations, noise, *, nfe=None):
            actions = super().act(observations, noise, nfe=nfe).actions
            return ActionChunks(actions, RemoteTiming(3.0, 2.0, 1.0, 4, "jetson"))

    log = play(Elsewhere(zeros()), max_steps={"stub": 2}).decisions
    assert (log.infer_ms, log.queue_ms, log.transport_ms) == ([3.0] * 2, [2.0] * 2, [1.0] * 2)
    assert (log.batch_size, log.hardware) == ([4] * 2, ["jetson"] * 2)
    assert play(FunctionPolicy(zeros()), max_steps={"stub": 2}).decisions.transport_ms == [None, None]
