"""SnapFlow students: the head, its zero initialisation, and the one-step sampler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_small import noise_for, observe
from safetensors.torch import load_file, save_file

from harness.errors import PolicyError
from harness.policies.lerobot.snapflow import HEAD_TENSORS, head_names

WIDTH = 32
"""Width of the small action expert."""


def with_head(folder: Path, spelling: tuple[str, str] = ("target_time_mlp_in", "target_time_mlp_out")) -> Path:
    """Add a trained head to a checkpoint, with a hidden layer wider than the expert."""
    generator = torch.Generator().manual_seed(5)
    path = folder / "model.safetensors"
    shapes = {"weight": ((48, WIDTH), (WIDTH, 48)), "bias": ((48,), (WIDTH,))}
    head = {
        f"model.{layer}.{tensor}": 0.3 * torch.randn(shapes[tensor][n], generator=generator)
        for n, layer in enumerate(spelling)
        for tensor in shapes
    }
    save_file(load_file(path) | head, path)
    return folder


@pytest.mark.parametrize("nfe", [1, 2, 10])
def test_a_head_at_its_zero_initialisation_is_exactly_the_teacher(save: Any, load: Any, nfe: int) -> None:
    folder, observations = save("pi05"), observe(2)
    teacher, student = load(folder), load(folder, snapflow=True)
    noise = noise_for(teacher, observations)
    expected = teacher.act(observations, noise, nfe=nfe).actions
    assert np.array_equal(student.act(observations, noise, nfe=nfe).actions, expected)
    assert student.provenance["snapflow"] == "zero initialisation"
    assert any("naive single step" in warning for warning in student.warnings)


def test_a_student_s_default_is_one_evaluation(save: Any, load: Any) -> None:
    folder = save("pi05")
    assert load(folder).info.default_nfe == 10
    assert load(with_head(folder)).info.default_nfe == 1
    assert load(folder, nfe=10).info.default_nfe == 10


@pytest.mark.parametrize(
    "spelling",
    [
        ("target_time_mlp_in", "target_time_mlp_out"),
        ("target_time_mlp_1", "target_time_mlp_2"),
        ("target_time_mlp.0", "target_time_mlp.2"),
    ],
)
def test_a_head_in_the_checkpoint_is_found_loaded_and_verified(save: Any, load: Any, spelling: tuple[str, str]) -> None:
    folder = with_head(save("pi05"), spelling)
    student = load(folder)
    stored = load_file(folder / "model.safetensors")
    assert student.provenance["snapflow"] == "checkpoint"
    assert student.provenance["weights"] == f"verified, {len(stored)} tensors"
    loaded = student.policy.state_dict()
    assert all(torch.equal(loaded[name], stored[source]) for name, source in head_names(stored).items())


def test_one_evaluation_is_one_step_towards_the_target_time_zero(save: Any, load: Any) -> None:
    """x0 = x1 − F(x1, s = 0, t = 1), with F assembled here from the model's parts."""
    student, observations = load(with_head(save("pi05"))), observe(2)
    noise = noise_for(student, observations)
    model = student.policy.model
    calls: list[torch.Tensor] = []
    inner = model.target_time_mlp_in.forward
    model.target_time_mlp_in.forward = lambda features: (calls.append(features), inner(features))[1]
    one = student.act(observations, noise, nfe=1).actions
    at_zero = torch.cat([torch.zeros(WIDTH // 2), torch.ones(WIDTH // 2)])
    assert len(calls) == 1
    torch.testing.assert_close(calls[0], at_zero.expand(2, WIDTH).to(calls[0].dtype))

    velocity: list[torch.Tensor] = []
    denoise = model.denoise_step

    def recorded(**arguments: Any) -> torch.Tensor:
        assert bool((arguments["timestep"] == 1).all())
        velocity.append(denoise(**arguments))
        return velocity[-1]

    model.denoise_step = recorded
    again = student.act(observations, noise, nfe=1).actions
    x0 = torch.from_numpy(noise) - velocity[0]
    expected = student.processors.post(x0[:, :, :7]).numpy()
    np.testing.assert_allclose(again, expected, atol=1e-6)
    assert np.array_equal(one, again)


def test_more_evaluations_aim_at_the_present_time(save: Any, load: Any) -> None:
    student, observations = load(with_head(save("pi05"))), observe(1)
    noise = noise_for(student, observations)
    model, seen = student.policy.model, []
    inner = model.target_time_mlp_in.forward
    model.target_time_mlp_in.forward = lambda features: (seen.append(features[0]), inner(features))[1]
    student.act(observations, noise, nfe=4)
    assert len(seen) == 4
    assert len({tuple(features.tolist()) for features in seen}) == 4


def test_a_trained_head_changes_the_actions_and_can_be_left_out(save: Any, load: Any) -> None:
    folder, observations = save("pi05"), observe(1)
    teacher = load(folder)
    noise = noise_for(teacher, observations)
    expected = teacher.act(observations, noise, nfe=1).actions
    with_head(folder)
    assert not np.allclose(load(folder).act(observations, noise, nfe=1).actions, expected, atol=1e-4)
    without = load(folder, snapflow=False)
    assert np.array_equal(without.act(observations, noise, nfe=1).actions, expected)
    assert any("snapflow=false leaves out" in warning for warning in without.warnings)


def test_a_head_of_which_a_tensor_is_missing_is_refused(save: Any, load: Any) -> None:
    folder = with_head(save("pi05"))
    path = folder / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != HEAD_TENSORS[-1]}, path)
    with pytest.raises(PolicyError, match=r"not in the model: model\.target_time_mlp_in"):
        load(folder)
