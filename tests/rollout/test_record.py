"""Episodes become demonstrations: what was seen before each action, and what was wanted there."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from stub_policies import FunctionPolicy, make_unit, ones

from harness.errors import UsageError
from harness.policies.scripted import ScriptedPolicy
from harness.rollout import LocalDecider, WallTime
from harness.rollout.disturb import BURST, DisturbedSimulator, action_noise
from harness.rollout.record import RecordingSimulator, RecordPlan, record_episode, record_task, shrink
from harness.sim import LiberoSim
from harness.spec.observation import CAMERAS
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim

KEY = "ab" * 32


def half(seen, noise):
    """A chunk that adds 0.5 to the stub's counter, twice."""
    return np.tile(np.array([0.5, 0, 0, 0, 0, 0, -1], dtype=np.float32), (2, 1))


@pytest.fixture
def record(alarm):
    """Record one stub episode; keyword arguments go to the protocol."""

    def record(policy: FunctionPolicy, plan: RecordPlan | None = None, **protocol) -> tuple:
        clock = WallTime()
        sim = StubSim("stub", 0, SimConfig(resolution=16, cameras=CAMERAS))
        rules = Protocol.model_validate({"preset": "stub", **protocol})
        decider = LocalDecider(policy, alarm, clock)
        plan = plan or RecordPlan()
        found = record_episode(sim, decider, make_unit(), rules, policy.info, plan, clock=clock, limits=Limits())
        assert sim.cameras == CAMERAS
        return found

    return record


def test_row_i_is_what_was_seen_before_action_i(record) -> None:
    result, found = record(FunctionPolicy(ones()))
    assert found.success
    assert len(found.actions) == result.steps == 3
    np.testing.assert_array_equal(found.observed, [0, 1, 2])
    np.testing.assert_array_equal(found.state[:, 0], [0, 1, 2])
    np.testing.assert_array_equal(found.frames["agentview"][:, -1, 0, 0], [0, 1, 2])
    assert found.trajectory_sha256 == result.trajectory_sha256


def test_every_step_of_a_chunk_is_a_row_though_the_policy_looks_once(record) -> None:
    policy = FunctionPolicy(half, chunk_length=2, replan_interval=2, cameras=("agentview",))
    _, found = record(policy)
    assert len(policy.seen) == 3
    np.testing.assert_array_equal(found.state[:, 2], range(6))
    assert set(policy.seen[0][0].images) == {"agentview"}


def test_a_stride_looks_only_now_and_then_and_keeps_every_action(record) -> None:
    policy = FunctionPolicy(half, chunk_length=2, replan_interval=1, cameras=("agentview",))
    result, found = record(policy, RecordPlan(stride=4))
    np.testing.assert_array_equal(found.observed, [0, 4])
    np.testing.assert_array_equal(found.frames["robot0_eye_in_hand"][:, -1, 0, 0], [0, 4])
    assert len(found.actions) == result.steps == 6


def test_recording_changes_nothing_in_the_episode(record, play) -> None:
    policy = FunctionPolicy(half, chunk_length=2, replan_interval=2, cameras=CAMERAS, observation_steps=2)
    result, _ = record(policy, RecordPlan(stride=3))
    alone = FunctionPolicy(half, chunk_length=2, replan_interval=2, cameras=CAMERAS, observation_steps=2)
    assert play(alone).trajectory_sha256 == result.trajectory_sha256
    for (recorded, _, _), (plain, _, _) in zip(policy.seen, alone.seen, strict=True):
        assert [len(seen.history) for seen in (recorded, plain)] == [len(plain.history)] * 2
        np.testing.assert_array_equal(recorded.images["agentview"], plain.images["agentview"])
        for earlier, other in zip(recorded.history, plain.history, strict=True):
            np.testing.assert_array_equal(earlier.state, other.state)


def test_what_is_recorded_is_shown_to_nobody_who_did_not_ask() -> None:
    recording = RecordingSimulator(StubSim("stub", 0, SimConfig(resolution=16, cameras=CAMERAS)), RecordPlan(), ())
    assert recording.reset(0, episode_key=KEY, observe=False) is None
    assert recording.step(np.zeros(7, dtype=np.float32)).observation is None
    assert recording.step(np.zeros(7, dtype=np.float32), observe=True).observation is not None


def test_chunks_are_the_next_actions_and_hold_still_after_the_end(record) -> None:
    ramp = FunctionPolicy(lambda seen, noise: np.full((1, 7), 0.2 * (1 + seen.decision), dtype=np.float32))
    _, found = record(ramp)
    chunks, padding = found.chunks(3)
    assert chunks.shape == (len(found.actions), 3, 7)
    np.testing.assert_array_equal(chunks[0], found.actions[:3])
    np.testing.assert_array_equal(padding[-2:], [[False, False, True], [False, True, True]])
    np.testing.assert_array_equal(chunks[-1, 1:, :6], 0.0)
    np.testing.assert_array_equal(chunks[-1, 1:, 6], found.actions[-1, 6])


def test_with_noise_the_label_is_what_was_wanted_and_the_rest_is_kept_apart(record) -> None:
    _, found = record(FunctionPolicy(half, chunk_length=2), action_noise=0.2, max_steps={"stub": 50})
    np.testing.assert_array_equal(found.actions, np.tile(half(None, None)[:1], (len(found.actions), 1)))
    noise = [action_noise(found.unit.episode_key, step, 0.2) for step in range(len(found.actions))]
    np.testing.assert_array_equal(found.executed, np.clip(found.actions + noise, -1, 1))
    np.testing.assert_allclose(found.state[1:, 0], np.cumsum(found.executed[:-1, 0]), rtol=1e-5)


def test_noise_is_keyed_smooth_comes_in_bursts_and_leaves_the_gripper_alone() -> None:
    noise = np.stack([action_noise(KEY, step, 0.3) for step in range(100 * BURST)])
    np.testing.assert_array_equal(noise[::7], [action_noise(KEY, step, 0.3) for step in range(0, len(noise), 7)])
    assert (noise[:5] != np.stack([action_noise("cd" * 32, step, 0.3) for step in range(5)])).any()
    assert (noise[:, 6] == 0).all()
    active = (noise[:, :6] != 0).any(axis=1)
    assert 0.35 < active.mean() < 0.65
    assert (active.reshape(-1, BURST) == active.reshape(-1, BURST)[:, :1]).all()
    assert noise[active, :6].std() == pytest.approx(0.3, rel=0.1)
    steps = noise[active][:BURST, 0]
    assert np.corrcoef(steps[:-1], steps[1:])[0, 1] > 0.5
    assert (action_noise(KEY, 0, 0.0) == 0).all()


def test_disturbed_actions_stay_in_range() -> None:
    sim = DisturbedSimulator(StubSim("stub", 0, SimConfig(resolution=16)), sigma=1.0)
    sim.reset(0, episode_key=KEY, observe=False)
    for _ in range(2 * BURST):
        sim.step(np.ones(7, dtype=np.float32))
    assert max(np.abs(action).max() for action in sim.executed) <= 1.0


def test_shrinking_averages_squares_and_refuses_what_does_not_divide() -> None:
    frame = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    small = shrink(frame, 2)
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small[0, 0], np.rint(frame[:2, :2].reshape(4, 3).mean(axis=0)))
    with pytest.raises(UsageError, match="shrink 3 does not divide"):
        shrink(frame, 3)


def test_a_task_is_recorded_without_ray(alarm) -> None:
    protocol = Protocol.model_validate({"preset": "stub", "placements": "sampled"})
    records = list(record_task("stub", 0, [0, 60], policy=FunctionPolicy(ones()), protocol=protocol, world="stub"))
    assert [found.unit.init_state_id for found in records] == [0, 60]
    assert records[0].unit.episode_key != records[1].unit.episode_key
    assert all(found.success for found in records)


def test_a_libero_demonstration_with_noise_plays_again_to_the_bit() -> None:
    protocol = Protocol.model_validate(
        {"preset": "lerobot", "placements": "sampled", "action_noise": 0.2, "resolution": 32}
    )
    (found,) = record_task(
        "libero_spatial", 0, [7], policy=ScriptedPolicy(), protocol=protocol, plan=RecordPlan(stride=20)
    )
    assert found.success
    assert found.frames["agentview"].shape == (len(found.observed), 32, 32, 3)
    again = LiberoSim("libero_spatial", 0, config=SimConfig(resolution=32, cameras=CAMERAS, placements="sampled"))
    again.reset(7, observe=False)
    trajectory = hashlib.sha256()
    for step, action in enumerate(found.executed):
        if step == 19:
            seen = again.step(action, observe=True).observation
        else:
            again.step(action)
        trajectory.update(again.qpos)
    again.close()
    assert trajectory.hexdigest() == found.trajectory_sha256
    assert seen is not None
    for camera in CAMERAS:
        np.testing.assert_array_equal(seen.images[camera], found.frames[camera][1])
    np.testing.assert_array_equal(seen.state, found.state[1])
