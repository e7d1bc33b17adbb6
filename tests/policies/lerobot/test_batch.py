"""Observations into LeRobot's batch, against what its LIBERO environment makes of the same scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from lerobot_small import observe

from harness.errors import PolicyError
from harness.policies.lerobot.batch import ObservationReader
from harness.policies.lerobot.families import LIBERO_KEYS

CPU = torch.device("cpu")


def test_a_batch_equals_that_of_lerobot_s_environment_to_the_bit() -> None:
    from lerobot.envs import preprocess_observation
    from lerobot.processor.env_processor import LiberoProcessorStep
    from lerobot.processor.pipeline import PolicyProcessorPipeline

    random = np.random.default_rng(0)
    position, gripper = random.uniform(-1, 1, (2, 3)), random.uniform(0, 0.04, (2, 2))
    quaternion = random.standard_normal((2, 4))
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    observations = observe(2)
    raw = {
        "pixels": {
            key.rpartition(".")[2]: np.stack([o.images[camera][::-1, ::-1] for o in observations])
            for camera, key in LIBERO_KEYS.items()
        },
        "robot_state": {"eef": {"pos": position, "quat": quaternion}, "gripper": {"qpos": gripper}},
    }
    expected = PolicyProcessorPipeline(steps=[LiberoProcessorStep()])(preprocess_observation(raw))
    angle = 2 * np.arccos(np.clip(quaternion[:, 3:], -1, 1))
    axis_angle = quaternion[:, :3] / np.sqrt(1 - quaternion[:, 3:] ** 2) * angle
    states = np.concatenate([position, axis_angle, gripper], axis=1).astype(np.float32)
    seen = [replace(o, state=state) for o, state in zip(observations, states, strict=True)]
    batch = ObservationReader(LIBERO_KEYS, CPU, None).read(seen)
    assert set(batch) == {*LIBERO_KEYS.values(), "observation.state", "task"}
    for key in LIBERO_KEYS.values():
        assert torch.equal(batch[key], expected[key])
    torch.testing.assert_close(batch["observation.state"], expected["observation.state"], rtol=0, atol=1e-6)
    assert batch["task"] == [o.instruction for o in observations]


def test_frames_that_are_not_turned_would_not_pass() -> None:
    observations = observe(1)
    turned = [replace(observations[0], images={c: i[::-1, ::-1] for c, i in observations[0].images.items()})]
    reader = ObservationReader(LIBERO_KEYS, CPU, None)
    key = LIBERO_KEYS["agentview"]
    assert not torch.equal(reader.read(observations)[key], reader.read(turned)[key])


def test_the_table_of_quotients_gives_the_cpu_s_values() -> None:
    reader = ObservationReader(LIBERO_KEYS, CPU, None)
    plain = reader.read(observe(1))
    reader._quotients = torch.arange(256, dtype=torch.float32) / 255
    assert all(torch.equal(reader.read(observe(1))[key], plain[key]) for key in LIBERO_KEYS.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_frames_converted_on_cuda_equal_the_cpu_s_to_the_bit() -> None:
    there = ObservationReader(LIBERO_KEYS, torch.device("cuda"), None).read(observe(2))
    here = ObservationReader(LIBERO_KEYS, CPU, None).read(observe(2))
    assert all(torch.equal(there[key].cpu(), here[key]) for key in LIBERO_KEYS.values())


def test_a_time_axis_holds_the_history_oldest_first() -> None:
    now = observe(1, decision=2)[0]
    batch = ObservationReader(LIBERO_KEYS, CPU, 2).read([now])
    assert batch[LIBERO_KEYS["agentview"]].shape == (1, 2, 3, 64, 64)
    assert batch["observation.state"].shape == (1, 2, 8)
    assert np.array_equal(batch["observation.state"][0, 0].numpy(), now.history[0].state)
    assert np.array_equal(batch["observation.state"][0, 1].numpy(), now.state)


def test_frames_of_two_sizes_in_one_batch_are_refused() -> None:
    with pytest.raises(PolicyError, match="'agentview' differ in size"):
        ObservationReader(LIBERO_KEYS, CPU, None).read([*observe(1, size=32), *observe(1, size=48)])
