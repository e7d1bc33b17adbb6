"""LiberoSim's public behaviour: what it shows, what it refuses, what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from harness.errors import SimulatorError, UsageError
from harness.sim import LiberoSim, SimConfig
from harness.sim.libero import SETTLE_ACTION
from harness.worlds import Simulator

STILL = np.array(SETTLE_ACTION, np.float32)
PUSH = np.array([0.5, -0.3, 0.2, 0.1, 0, 0, 1], np.float32)


@pytest.fixture(scope="module")
def sim() -> Iterator[LiberoSim]:
    sim = LiberoSim("libero_spatial", 0, config=SimConfig(resolution=48, cameras=("agentview",), privileged=True))
    yield sim
    sim.close()


def test_it_is_a_simulator(sim: LiberoSim) -> None:
    assert isinstance(sim, Simulator)
    assert sim.instruction == "pick up the black bowl between the plate and the ramekin and place it on the plate"
    assert sim.n_init_states == 50


def test_both_cameras_at_256_pixels_are_the_default() -> None:
    sim = LiberoSim("libero_object", task_id=0)
    observation = sim.reset(init_state_id=3)
    assert observation is not None
    assert {name: image.shape for name, image in observation.images.items()} == {
        "agentview": (256, 256, 3),
        "robot0_eye_in_hand": (256, 256, 3),
    }
    assert observation.state.shape == (8,)
    assert observation.state.dtype == np.float32
    assert observation.privileged == {}
    sim.close()


def test_stepping_before_a_reset_is_refused_with_the_remedy() -> None:
    with pytest.raises(SimulatorError, match=r"reset\(init_state_id\) first"):
        LiberoSim("libero_object", config=SimConfig()).step(STILL)


@pytest.mark.parametrize("init_state_id", [-1, 50])
def test_an_init_state_out_of_range_is_answered_with_the_range(sim: LiberoSim, init_state_id: int) -> None:
    with pytest.raises(UsageError, match=f"Init state {init_state_id} does not exist; .* has 0 to 49"):
        sim.reset(init_state_id)


@pytest.mark.parametrize(
    "action", [np.zeros(6, np.float32), np.zeros((1, 7), np.float32), np.array([0, 0, np.nan, 0, 0, 0, 1], np.float32)]
)
def test_an_action_that_is_none_changes_nothing_and_is_shown(sim: LiberoSim, action: np.ndarray) -> None:
    sim.reset(0, observe=False)
    before = sim.qpos
    with pytest.raises(UsageError, match="7 finite numbers"):
        sim.step(action)
    np.testing.assert_array_equal(sim.qpos, before)


def test_nothing_is_rendered_unless_asked(sim: LiberoSim) -> None:
    assert sim.reset(1, observe=False) is None
    assert sim.step(PUSH).observation is None
    assert sim.timings.render_s == 0.0
    assert sim.step(PUSH, observe=True).observation is not None
    assert sim.timings.render_s > 0.0


def test_timings_count_since_the_last_reset_and_each_second_once(sim: LiberoSim) -> None:
    sim.reset(1)
    rendered_in_reset = sim.timings.render_s
    assert sim.timings.reset_s > 0
    assert rendered_in_reset > 0
    assert sim.timings.physics_s == 0
    sim.step(PUSH)
    assert sim.timings.physics_s > 0
    assert sim.timings.render_s == rendered_in_reset
    physics = sim.timings.physics_s
    sim.frame("frontview", 32)
    assert sim.timings.render_s > rendered_in_reset
    assert sim.timings.physics_s == physics


def test_raw_frames_are_the_rotated_ones_turned_back() -> None:
    def frame(orientation: str) -> np.ndarray:
        config = SimConfig(resolution=40, cameras=("agentview",), image_orientation=orientation, settle_steps=1)
        sim = LiberoSim("libero_object", 2, config=config)
        observation = sim.reset(0)
        sim.close()
        assert observation is not None
        return observation.images["agentview"]

    rotated, raw = frame("rotated_180"), frame("raw")
    np.testing.assert_array_equal(rotated, raw[::-1, ::-1])
    assert rotated.flags.c_contiguous
    assert (rotated != raw).any()


def test_a_video_frame_disturbs_neither_the_episode_nor_its_observations(sim: LiberoSim) -> None:
    def episode(film: bool) -> list[np.ndarray]:
        seen = []
        sim.reset(4)
        for number in range(4):
            result = sim.step(PUSH, observe=number == 3)
            if film:
                assert sim.frame("robot0_eye_in_hand", 64).shape == (64, 64, 3)
            seen.append(sim.qpos)
        assert result.observation is not None
        return [*seen, result.observation.images["agentview"]]

    for plain, filmed in zip(episode(film=False), episode(film=True), strict=True):
        np.testing.assert_array_equal(plain, filmed)


def test_a_video_frame_shows_the_present_and_may_be_larger_than_robosuites_buffer(sim: LiberoSim) -> None:
    sim.reset(0, observe=False)
    first = sim.frame("agentview", 512)
    for _ in range(5):
        sim.step(PUSH)
    assert first.shape == (512, 512, 3)
    assert (sim.frame("agentview", 512) != first).any()


def test_an_unknown_camera_is_answered_with_the_cameras_that_exist(sim: LiberoSim) -> None:
    with pytest.raises(UsageError, match=r"no camera 'agent'.*agentview"):
        sim.frame("agent", 32)


def test_two_simulators_of_one_process_do_not_disturb_each_other() -> None:
    config = SimConfig(resolution=40, cameras=("agentview",), settle_steps=2)
    sims = [LiberoSim("libero_object", task, config=config) for task in (0, 1)]

    def run(which: int, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        if reset:
            sims[which].reset(7, observe=False)
        observation = sims[which].step(PUSH, observe=True).observation
        assert observation is not None
        return sims[which].qpos, observation.images["agentview"]

    alone = [[run(which, reset=number == 0) for number in range(3)] for which in (0, 1)]
    turns = [(number, which) for number in range(3) for which in (0, 1)]
    for number, which in turns:
        for got, expected in zip(run(which, reset=number == 0), alone[which][number], strict=True):
            np.testing.assert_array_equal(got, expected)
    for sim in sims:
        sim.close()


def test_building_a_task_leaves_numpys_global_generator_as_it_was() -> None:
    np.random.seed(123)
    expected = np.random.random(3)
    np.random.seed(123)
    LiberoSim("libero_object", 0, config=SimConfig()).close()
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_the_placement_seed_decides_where_fixtures_stand() -> None:
    def cabinet(seed: int) -> np.ndarray:
        sim = LiberoSim("libero_spatial", 0, config=SimConfig(privileged=True, placement_seed=seed, settle_steps=0))
        observation = sim.reset(0)
        assert observation is not None
        return observation.privileged["wooden_cabinet_1"]

    np.testing.assert_array_equal(cabinet(0), cabinet(0))
    assert (cabinet(0)[:3] != cabinet(1)[:3]).any()


def test_privileged_poses_name_objects_fixtures_regions_and_the_end_effector(sim: LiberoSim) -> None:
    observation = sim.reset(0)
    assert observation is not None
    poses = observation.privileged
    assert {"akita_black_bowl_1", "plate_1", "wooden_cabinet_1", "flat_stove_1_cook_region", "robot0_eef"} <= set(poses)
    assert all(pose.shape == (7,) for pose in poses.values())
    np.testing.assert_allclose(poses["robot0_eef"][:3], observation.state[:3], atol=1e-6)
    for name in ("akita_black_bowl_1", "main_table_plate_region", "robot0_eef"):
        assert np.linalg.norm(poses[name][3:]) == pytest.approx(1.0)
    assert poses["plate_1/geometry"][6] > 0


def test_observations_carry_the_episode_key(sim: LiberoSim) -> None:
    observation = sim.reset(0, episode_key="abc")
    assert observation is not None
    assert observation.episode_key == "abc"
    after = sim.step(PUSH, observe=True).observation
    assert after is not None
    assert after.episode_key == "abc"


def test_settle_steps_change_where_an_episode_begins() -> None:
    def start(settle_steps: int) -> np.ndarray:
        sim = LiberoSim("libero_object", 0, config=SimConfig(settle_steps=settle_steps))
        assert sim.reset(0) is not None
        return sim.qpos

    assert (start(0) != start(10)).any()


def test_an_irregular_control_rate_is_refused_before_anything_is_built() -> None:
    with pytest.raises(UsageError, match="control_hz=30"):
        LiberoSim("libero_object", 0, config=SimConfig(control_hz=30))


def test_unknown_suites_and_tasks_are_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'libero_spatial'"):
        LiberoSim("libero_spatal")
    with pytest.raises(UsageError, match="Task 99 does not exist"):
        LiberoSim("libero_spatial", 99)
