"""Episodes under the clocks, against a plain loop that is driven by steps, not by decisions."""

from __future__ import annotations

import numpy as np
import pytest
from stub_policies import FunctionPolicy, make_unit

from harness.clocks import VIRTUAL, DelaySamples, DelaySource, Timing
from harness.rollout.course import jerk
from harness.spec.action_space import LIBERO_ACTIONS
from harness.spec.observation import Observation
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim

STEPS = 60
DELAYED = ("blocking", "asynchronous", "rtc")


def constant(clock, ms, **terms):
    return Timing(clock, DelaySource("constant", any_variant=DelaySamples.constant(ms), **terms))


def marked(length, **info):
    """A policy whose actions say which decision and which action of its chunk they are; it never succeeds."""

    def act(seen, noise):
        chunk = np.zeros((length, 7), dtype=np.float32)
        chunk[:, 1] = (seen.decision + 1) / 100
        chunk[:, 2] = (np.arange(length) + 1) / 100
        chunk[:, 6] = 1 if seen.decision % 2 else -1
        return chunk

    return FunctionPolicy(act, chunk_length=length, **info)


def executed(actions):
    """(decision, action) of each step; None for a hold."""
    marks = [(round(100 * float(a[1])) - 1, round(100 * float(a[2])) - 1) for a in actions]
    return [None if mark == (-1, -1) else mark for mark in marks]


def plain_loop(clock, length, interval, delays, steps):
    """What the robot executes, step by step, from the words of the documentation."""
    done, flight, chunk, due, began = [], None, None, 0, []
    for now in range(steps):
        if flight is not None and now >= flight[1] + delays[flight[0]]:
            chunk, flight = flight, None
        if clock == "blocking":
            if flight is None and now >= due:
                k = len(began)
                began.append(now)
                due = now + delays[k] + interval
                flight, chunk = ((k, now), None) if delays[k] else (None, (k, now))
            place = None if chunk is None else now - chunk[1] - delays[chunk[0]]
        else:
            if flight is None and now >= due:
                k = len(began)
                began.append(now)
                due = now + max(1, min(interval, length - max(delays[max(0, k - 9) : k + 1])))
                if delays[k]:
                    flight = (k, now)
                else:
                    chunk = (k, now)
            place = None if chunk is None else now - chunk[1]
        fits = chunk is not None and place < length
        done.append((chunk[0], place) if fits else None)
    return done, began


@pytest.mark.parametrize("clock", DELAYED)
@pytest.mark.parametrize(("length", "interval"), [(10, 10), (10, 4), (3, 1), (20, 5)])
@pytest.mark.parametrize("ms", [0, 1, 50, 130, 149.9, 450, 900])
def test_a_constant_delay_executes_what_a_plain_loop_does(play, clock, length, interval, ms):
    actions: list[np.ndarray] = []
    policy = marked(length, replan_interval=interval, rtc=True)
    result = play(policy, timing=constant(clock, ms), recorder=actions, max_steps={"stub": STEPS})
    steps = int(np.ceil(ms / 50))
    expected, began = plain_loop(clock, length, interval, [steps] * STEPS, STEPS)
    assert executed(actions) == expected
    assert (result.outcome, result.steps, result.hold_steps) == ("timeout", STEPS, expected.count(None))
    assert result.decisions.delay_steps == [steps] * len(began)
    assert result.decisions.delay_ms == [ms] * len(began)
    assert [int(seen.state[2]) for seen, _, _ in policy.seen] == began


@pytest.mark.parametrize("clock", DELAYED)
def test_changing_delays_execute_what_a_plain_loop_does(play, clock):
    samples = DelaySamples((np.random.default_rng(0).gamma(2.0, 70.0, 200), np.full(50, 20.0)))
    timing = Timing(clock, DelaySource("device", any_variant=samples))
    kinds = set()
    for task in range(6):
        actions: list[np.ndarray] = []
        unit = make_unit(task_id=task)
        policy = marked(8, replan_interval=6, rtc=True)
        result = play(policy, timing=timing, unit=unit, recorder=actions, max_steps={"stub": STEPS})
        expected, _ = plain_loop(clock, 8, 6, [*result.decisions.delay_steps, *[1] * STEPS], STEPS)
        assert executed(actions) == expected
        kinds |= set(result.decisions.delay_steps)
    assert len(kinds) > 3


@pytest.mark.parametrize("clock", VIRTUAL)
def test_with_no_delay_every_clock_is_the_synchronous_one(play, clock):
    def act(seen, noise):
        return np.clip(noise + seen.state[0] / 50, -1, 1).astype(np.float32)

    for interval, look_back in ((1, 1), (3, 2), (5, 1)):
        info = {"chunk_length": 5, "replan_interval": interval, "noise_shape": (5, 7), "observation_steps": look_back}
        timing = Timing() if clock == "synchronous" else constant(clock, 0)
        found = play(FunctionPolicy(act, **info, rtc=True), timing=timing)
        plain = play(FunctionPolicy(act, **info))
        assert found.trajectory_sha256 == plain.trajectory_sha256
        assert (found.steps, len(found.decisions)) == (plain.steps, len(plain.decisions))
        assert (found.stale_steps, found.hold_steps) == (0, 0)


def test_stale_steps_are_those_that_an_old_chunk_runs_while_a_decision_is_under_way(play):
    result = play(marked(10, replan_interval=5), timing=constant("asynchronous", 100), max_steps={"stub": 22})
    # Decisions at 0, 5, 10, 15, 20: two steps each, of which the first two had no old chunk.
    assert (result.stale_steps, result.hold_steps, len(result.decisions)) == (8, 2, 5)


def test_holding_moves_nothing_and_keeps_the_gripper(play):
    actions: list[np.ndarray] = []
    play(marked(2, replan_interval=2), timing=constant("blocking", 100), recorder=actions, max_steps={"stub": 8})
    holds = [0, 1, 4, 5]
    assert all(not actions[i][:6].any() for i in holds)
    assert [actions[i][6] for i in range(8)] == [-1, -1, -1, -1, -1, -1, 1, 1]


def test_holding_repeats_an_absolute_target_or_the_present_pose():
    seen = Observation("", np.arange(8, dtype=np.float32))
    assert LIBERO_ACTIONS["absolute"].hold(None, seen.state).tolist() == [0, 1, 2, 3, 4, 5, -1]
    last = np.full(7, 0.3, dtype=np.float32)
    assert LIBERO_ACTIONS["absolute"].hold(last, seen.state) is last
    assert LIBERO_ACTIONS["relative"].hold(last, seen.state).tolist() == pytest.approx([0, 0, 0, 0, 0, 0, 0.3])


def test_rtc_is_told_what_of_the_old_chunk_is_executed_meanwhile(play):
    policy = marked(10, replan_interval=6, rtc=True)
    play(policy, timing=constant("rtc", 150), max_steps={"stub": 20})
    first, second, third = (seen.previous for seen, _, _ in policy.seen[:3])
    assert first is None
    for place, previous in ((0, second), (1, third)):
        assert previous.frozen == 3
        assert executed(previous.actions) == [(place, i) for i in range(6, 10)]


@pytest.mark.parametrize("clock", ["synchronous", "asynchronous", "blocking"])
def test_no_other_clock_tells_a_policy_of_its_old_chunk(play, clock):
    policy = marked(10, replan_interval=6, rtc=True)
    play(policy, timing=Timing() if clock == "synchronous" else constant(clock, 150))
    assert all(seen.previous is None for seen, _, _ in policy.seen)


def test_history_is_of_the_steps_before_each_decision_under_a_delay(play):
    policy = marked(10, replan_interval=6, observation_steps=3)
    play(policy, timing=constant("asynchronous", 150), max_steps={"stub": 30})
    for seen, _, _ in policy.seen[1:]:
        now = int(seen.state[2])
        assert [int(moment.state[2]) for moment in seen.history] == [now - 2, now - 1]


def test_energy_is_summed_over_decisions_and_unknown_where_one_is(play):
    def timing(joules):
        return Timing(
            "blocking", DelaySource("d", any_variant=DelaySamples((np.array([50.0]),), (np.array([joules]),)))
        )

    known = play(marked(5, replan_interval=5), timing=timing(3.0), max_steps={"stub": 18})
    assert (len(known.decisions), known.energy_j) == (3, 9.0)
    assert play(marked(5), timing=timing(np.nan)).energy_j is None
    assert play(marked(5)).energy_j is None


def test_success_while_holding_ends_the_episode(play):
    class Late(StubSim):
        def step(self, action, observe=False):
            result = super().step(action, observe)
            done = self._steps == 2
            return type(result)(done, done, result.observation)

    sim = Late("stub", 0, SimConfig())
    result = play(marked(5), sim=sim, timing=constant("blocking", 500))
    assert (result.outcome, result.steps, result.hold_steps) == ("success", 2, 2)


def test_jerk_is_the_third_difference_over_time():
    t = np.arange(50) / 20
    path = np.stack([2 * t**3, 0 * t, t**2], axis=1)
    assert jerk(list(path), 20) == pytest.approx(12.0)
    assert jerk(list(path[:3]), 20) is None
