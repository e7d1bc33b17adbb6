"""Checkpoints that LeRobot would load in part, or not at all, without a word."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot_small import FAMILIES, noise_for, observe
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.errors import PolicyError
from harness.policies.lerobot.weights import file_sha256, verify

TENSOR = "model.action_out_proj.weight"


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the tensors of a checkpoint."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


@pytest.mark.parametrize("policy_type", FAMILIES)
def test_every_tensor_of_a_whole_checkpoint_is_compared(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type)
    policy = load(folder)
    stored = load_file(folder / "model.safetensors")
    assert policy.provenance["weights"] == f"verified, {len(stored)} tensors"
    assert policy.info.stated_identity.weights == file_sha256(folder / "model.safetensors")


@pytest.mark.parametrize("policy_type", FAMILIES)
def test_a_missing_tensor_is_named(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type)
    name = sorted(load_file(folder / "model.safetensors"))[3]
    rewrite(folder, lambda tensors: {key: value for key, value in tensors.items() if key != name})
    with pytest.raises(PolicyError, match="not loaded whole") as refused:
        load(folder)
    assert f"1 not in the file: {name}" in str(refused.value)


def test_a_tensor_that_the_model_has_no_place_for_is_named(save: Any, load: Any) -> None:
    folder = save("act")
    rewrite(folder, lambda tensors: tensors | {"normalize_inputs.buffer_observation_state.mean": torch.zeros(8)})
    with pytest.raises(PolicyError, match="1 not in the model: normalize_inputs"):
        load(folder)


def test_a_tensor_of_another_shape_is_refused_where_lerobot_says_nothing(save: Any, load: Any) -> None:
    from lerobot.policies import get_policy_class

    folder = save("pi05")
    rewrite(folder, lambda tensors: tensors | {TENSOR: torch.zeros(32, 7)})
    silent = get_policy_class("pi05").from_pretrained(folder).state_dict()
    assert silent[TENSOR].shape == (32, 32)
    with pytest.raises(PolicyError, match="of another shape") as refused:
        load(folder)
    assert TENSOR in str(refused.value)
    assert "LeRobot said: Warning: Could not load state dict" in str(refused.value)


@pytest.mark.parametrize("policy_type", FAMILIES)
def test_loading_leaves_the_global_generator_and_the_initialisers_alone(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type)
    before = torch.get_rng_state()
    load(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert float(torch.nn.init.ones_(torch.zeros(1))) == 1


def test_values_that_differ_from_the_file_are_named(save: Any, load: Any) -> None:
    folder = save("pi05")
    policy = load(folder).policy
    with torch.no_grad():
        policy.get_parameter(TENSOR)[0, 0] += 1e-6
    with pytest.raises(PolicyError, match=f"1 different in value: {TENSOR}"):
        verify(policy, folder / "model.safetensors")


def test_a_tensor_that_is_not_finite_is_named(save: Any, load: Any) -> None:
    folder = save("smolvla")
    rewrite(folder, lambda tensors: tensors | {TENSOR: tensors[TENSOR] * float("nan")})
    with pytest.raises(PolicyError, match=f"holds weights that are NaN or infinite: 1 not finite: {TENSOR}"):
        load(folder)


@pytest.mark.parametrize("keep", [0, 7, 0.5, -1])
def test_a_truncated_file_is_refused_before_a_model_is_built(save: Any, load: Any, keep: float) -> None:
    path = save("act") / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)] if isinstance(keep, float) else data[:keep])
    with pytest.raises(PolicyError, match=r"model\.safetensors is truncated or corrupted .*fetch the checkpoint again"):
        load(path.parent)


def test_a_checkpoint_without_weights_is_refused(save: Any, load: Any) -> None:
    folder = save("act")
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"has no model\.safetensors"):
        load(folder)


def test_keys_that_lerobot_renames_are_followed(save: Any, load: Any) -> None:
    folder = save("pi05")
    observations = observe(1)
    expected = load(folder)
    noise = noise_for(expected, observations)
    actions = expected.act(observations, noise).actions

    def as_openpi(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Older names: no leading "model.", another name of the time layers, embeddings only as the tied head."""
        embedding = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
        tensors["model.paligemma_with_expert.paligemma.lm_head.weight"] = tensors.pop(embedding)
        short = {key.removeprefix("model."): value for key, value in tensors.items()}
        return {key.replace("time_mlp", "action_time_mlp"): value for key, value in short.items()}

    rewrite(folder, as_openpi)
    assert (load(folder).act(observations, noise).actions == actions).all()


def test_tied_tensors_that_the_file_stores_once_count_as_loaded(save: Any, load: Any) -> None:
    policy = load(save("pi0")).policy
    wrapper = torch.nn.Module()
    wrapper.first, wrapper.second = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    wrapper.second.weight = wrapper.first.weight
    path = Path(policy.config.pretrained_path) / "tied.safetensors"
    save_file({"first.weight": wrapper.first.weight.detach()}, path)
    assert verify(wrapper, path).tensors == 1
    wrapper.second = torch.nn.Linear(3, 3, bias=False)
    with pytest.raises(PolicyError, match=r"not in the file: second\.weight"):
        verify(wrapper, path)


def test_a_file_that_is_not_what_the_hub_states_is_refused(save: Any, load: Any) -> None:
    folder = save("act")
    policy = load(folder).policy
    path = folder / "model.safetensors"
    assert verify(policy, path, expected_sha256=file_sha256(path)).sha256 == file_sha256(path)
    with pytest.raises(PolicyError, match="the download is damaged"):
        verify(policy, path, expected_sha256="0" * 64)


def test_weights_stored_in_bfloat16_are_cast_as_lerobot_casts_them(save: Any, load: Any) -> None:
    folder = save("pi05")
    rewrite(folder, lambda tensors: {key: value.bfloat16() for key, value in tensors.items()})
    policy = load(folder)
    assert policy.info.dtype == "float32"
    stored = load_file(folder / "model.safetensors")[TENSOR]
    assert torch.equal(policy.policy.get_parameter(TENSOR), stored.float())


def test_dtype_bfloat16_keeps_what_lerobot_keeps_in_float32(save: Any, load: Any) -> None:
    policy, observations = load(save("pi05"), dtype="bfloat16"), observe(1)
    parts = dict(policy.policy.named_parameters())
    dtypes = {"self_attn.q_proj": torch.bfloat16, "input_layernorm": torch.float32, "vision_tower": torch.float32}
    for part, dtype in dtypes.items():
        found = {parameter.dtype for name, parameter in parts.items() if part in name}
        assert dtype in found
    assert "bfloat16" in policy.provenance["dtypes"]
    assert policy.act(observations, noise_for(policy, observations)).actions.dtype == "float32"


def test_functional_parameters_leave_the_dead_heads_out(save: Any, load: Any) -> None:
    policy = load(save("pi05"))
    heads = sum(p.numel() for name, p in policy.policy.named_parameters() if "lm_head" in name)
    counts = policy.provenance
    assert heads > 0
    assert int(counts["parameters"]) - int(counts["parameters_functional"]) == heads


def test_lerobot_s_disclaimers_stay_off_the_terminal(
    save: Any, load: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = save("pi05")
    capsys.readouterr()
    with caplog.at_level(logging.ERROR):
        load(folder)
    assert capsys.readouterr().out == ""


def test_the_identity_says_which_part_of_a_checkpoint_differs(save: Any, load: Any) -> None:
    """The files that a training run overwrites while an evaluation is stopped."""

    def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        data = json.loads((folder / name).read_text())
        change(data)
        (folder / name).write_text(json.dumps(data))

    folder = save("act")
    base = load(folder).info.stated_identity
    assert base.whole
    assert load(folder, compile_scope="parts").info.stated_identity == base

    edit(folder, "config.json", lambda data: data.update(device="cuda", push_to_hub=True, optimizer_lr=1.0))
    assert load(folder).info.stated_identity == base
    edit(folder, "config.json", lambda data: data.update(n_action_steps=1))
    shorter = load(folder).info
    assert base.compare(shorter.stated_identity).differ == ("configuration",)
    assert shorter.checkpoint_sha256 != base.sha256

    (stats,) = folder.glob("policy_postprocessor*.safetensors")
    tensors = load_file(stats)
    save_file({**tensors, "action.mean": tensors["action.mean"] + 5}, stats)
    moved = load(folder).info.stated_identity
    assert shorter.stated_identity.compare(moved).differ == ("statistics",)

    edit(folder, "policy_postprocessor.json", lambda data: data["steps"][0]["config"].update(eps=1e-3))
    assert moved.compare(load(folder).info.stated_identity).differ == ("processors",)
    rewrite(folder, lambda tensors: {name: tensor + 1 for name, tensor in tensors.items()})
    assert base.compare(load(folder).info.stated_identity).differ == (
        "weights", "configuration", "processors", "statistics"
    )  # fmt: skip
