"""Checkpoints that cannot be run on LIBERO: one clear message each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import load_policy
from lerobot_small import noise_for, observe

from harness.errors import HarnessError, PolicyError, UsageError
from harness.policies.ability import frame_warning
from harness.policies.lerobot.families import FAMILIES
from harness.policies.lerobot.loading import memory_guard


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    stored = json.loads(path.read_text())
    stored.update(changes)
    path.write_text(json.dumps({key: value for key, value in stored.items() if value is not None}))


def feature(kind: str, *shape: int) -> dict[str, Any]:
    return {"type": kind, "shape": list(shape)}


def with_features(folder: Path, which: str, **changes: Any) -> None:
    """Change input or output features of a checkpoint's configuration; None removes one."""
    stored = json.loads((folder / "config.json").read_text())[which]
    stored.update({key.replace("__", "."): value for key, value in changes.items()})
    edit(folder / "config.json", **{which: {key: value for key, value in stored.items() if value is not None}})


@pytest.mark.parametrize(
    ("which", "key", "shape", "told"),
    [
        ("input_features", "observation__state", 14, r"another robot: its observation\.state has 14 numbers"),
        ("output_features", "action", 14, "another robot: its action has 14 numbers, LIBERO's has 7"),
    ],
)
def test_a_checkpoint_for_another_robot_is_refused(
    save: Any, load: Any, which: str, key: str, shape: int, told: str
) -> None:
    folder = save("act")
    with_features(folder, which, **{key: feature("ACTION" if key == "action" else "STATE", shape)})
    with pytest.raises(PolicyError, match=told):
        load(folder)


def test_padded_sizes_are_settled_by_the_statistics(save: Any, load: Any) -> None:
    folder, observations = save("pi05"), observe(1)
    noise = noise_for(load(folder), observations)
    expected = load(folder).act(observations, noise).actions
    with_features(folder, "input_features", observation__state=feature("STATE", 32))
    with_features(folder, "output_features", action=feature("ACTION", 32))
    policy = load(folder)
    assert (policy.act(observations, noise).actions == expected).all()
    assert sum("padded size 32" in warning for warning in policy.warnings) == 2


def test_a_camera_that_libero_lacks_is_named_with_the_remedy(save: Any, load: Any) -> None:
    folder = save("act")
    image = feature("VISUAL", 3, 64, 64)
    with_features(folder, "input_features", observation__images__image=None, observation__images__cam_high=image)
    with pytest.raises(PolicyError, match=r"reads cameras .*cam_high.*\?rename=agentview="):
        load(folder)


def test_a_camera_that_the_policy_cannot_do_without_is_refused(save: Any, load: Any) -> None:
    folder = save("act")
    with_features(folder, "input_features", observation__images__right_wrist_0_rgb=feature("VISUAL", 3, 64, 64))
    with pytest.raises(PolicyError, match="right_wrist_0_rgb, for which LIBERO has no camera"):
        load(folder)


def test_a_normalised_feature_without_statistics_is_refused(save: Any, load: Any) -> None:
    from safetensors.torch import load_file, save_file

    folder = save("smolvla")
    for path in folder.glob("policy_postprocessor_step_*.safetensors"):
        tensors = load_file(path)
        save_file({key: value for key, value in tensors.items() if not key.startswith("action.")}, path)
    with pytest.raises(PolicyError, match="action has no statistic mean, which MEAN_STD reads"):
        load(folder)


def test_a_checkpoint_from_before_processors_is_sent_to_the_migration(save: Any, load: Any) -> None:
    folder = save("act")
    (folder / "policy_preprocessor.json").unlink()
    with pytest.raises(PolicyError, match=r"no policy_preprocessor\.json.*migrate_policy_normalization"):
        load(folder)


def test_a_tokenizer_that_cannot_be_fetched_is_named(save: Any, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerobot.processor import tokenizer_processor
    from transformers import AutoTokenizer

    folder = save("pi05")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(tokenizer_processor, "AutoTokenizer", AutoTokenizer)
    preprocessor = json.loads((folder / "policy_preprocessor.json").read_text())
    for step in preprocessor["steps"]:
        if step["registry_name"] == "tokenizer_processor":
            step["config"]["tokenizer_name"] = str(folder / "absent")
    (folder / "policy_preprocessor.json").write_text(json.dumps(preprocessor))
    with pytest.raises(PolicyError, match=r"Its tokenizer is '.*absent'.*tokenizer=FOLDER"):
        load(folder)


def test_the_tokenizer_option_replaces_the_one_stored(save: Any, load: Any, tokenizer: Path) -> None:
    folder = save("pi05")
    preprocessor = folder / "policy_preprocessor.json"
    preprocessor.write_text(preprocessor.read_text().replace(str(tokenizer), "google/paligemma-3b-pt-224"))
    assert load(folder, tokenizer=str(tokenizer)).processors.pre.steps


def test_a_field_that_this_lerobot_does_not_know_is_reported_with_both_versions(save: Any, load: Any) -> None:
    folder = save("act")
    edit(folder / "config.json", invented_field=1, lerobot_version="0.9.9")
    with pytest.raises(PolicyError, match=r"does not fit LeRobot 0\.6\.1; it declares LeRobot 0\.9\.9"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("config.json", "{", "cannot be read as JSON"),
        ("config.json", "[]", "holds a JSON list"),
        ("config.json", "{}", "no LeRobot checkpoint"),
        ("adapter_config.json", "{}", "PEFT adapter"),
    ],
)
def test_a_folder_that_holds_no_policy_is_refused(save: Any, load: Any, file: str, text: str, told: str) -> None:
    folder = save("act")
    (folder / file).write_text(text)
    with pytest.raises(PolicyError, match=told):
        load(folder)


def test_a_missing_folder_is_named(load: Any, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no checkpoint folder .*absent"):
        load(tmp_path / "absent")


def test_temporal_ensembling_is_refused(save: Any, load: Any) -> None:
    folder = save("act", n_action_steps=1)
    edit(folder / "config.json", temporal_ensemble_coeff=0.01)
    with pytest.raises(PolicyError, match="temporal ensembling"):
        load(folder)


@pytest.mark.parametrize("policy_type", sorted(name for name, family in FAMILIES.items() if family.refusal))
def test_a_type_that_cannot_be_driven_says_why(save: Any, load: Any, policy_type: str) -> None:
    folder = save("act")
    edit(folder / "config.json", type=policy_type)
    remedy = f"{FAMILIES[policy_type].server}://HOST:PORT"
    remedy += r"\?control_mode=absolute, with" if policy_type == "xvla" else ""
    with pytest.raises(PolicyError, match=f"of type {policy_type}.*{remedy}"):
        load(folder)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"device": "cuda:99"}, "torch sees"),
        ({"device": "abacus"}, "it is one of auto, cpu, cuda"),
        ({"dtype": "bfloat16"}, "act has no dtype setting"),
        ({"compile": "default"}, "act cannot be compiled"),
        ({"snapflow": True}, "adapter for pi05, not for act"),
        ({"n_action_steps": 7}, "n_action_steps is 7"),
        ({"vlm": "folder"}, "act fetches none"),
        ({"rename": "front=observation.images.image"}, "names camera 'front'"),
        ({"rename": "agentview=observation.images.top"}, "sends agentview to 'observation.images.top'"),
        ({"revision": "main"}, "has no revision 'main'"),
    ],
)
def test_options_that_contradict_the_checkpoint_are_usage_errors(
    save: Any, load: Any, options: dict[str, Any], error: str
) -> None:
    folder = save("act")
    with pytest.raises(UsageError, match=error):
        load(folder, **options)


@pytest.mark.parametrize(
    "raised",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_running_out_of_memory_while_loading_names_the_remedy(raised: Exception) -> None:
    with (
        pytest.raises(PolicyError, match=r"does not fit into the memory of cuda.*dtype=bfloat16"),
        memory_guard("p", "cuda"),
    ):
        raise raised


def test_running_out_of_memory_in_a_decision_names_the_batch(save: Any, load: Any, monkeypatch: Any) -> None:
    policy = load(save("act"))

    def exhausted(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(policy.policy, "predict_action_chunk", exhausted)
    with pytest.raises(PolicyError, match="batch of 3; lower max_batch"):
        policy.act(observe(3), None)


def test_every_refusal_is_one_the_command_line_prints(save: Any, load: Any) -> None:
    folder = save("act")
    (folder / "config.json").unlink()
    with pytest.raises(HarnessError) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def statistics_file(folder: Path, which: str) -> Path:
    (path,) = folder.glob(f"policy_{which}processor_step_*normalizer_processor.safetensors")
    return path


def with_statistics(folder: Path, which: str, **changes: torch.Tensor | None) -> None:
    """Change statistics of a pipeline ("observation__state__mean"); None removes one."""
    from safetensors.torch import load_file, save_file

    path = statistics_file(folder, which)
    tensors = {**load_file(path), **{key.replace("__", "."): value for key, value in changes.items()}}
    save_file({key: value for key, value in tensors.items() if value is not None}, path)


def with_steps(folder: Path, which: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Change the steps of a pipeline."""
    path = folder / f"policy_{which}processor.json"
    stored = json.loads(path.read_text())
    edit(path, steps=change(stored["steps"]))


def use_quantiles(folder: Path) -> None:
    """Say QUANTILES everywhere, as Pi0.5's checkpoints do."""
    mapping = json.loads((folder / "config.json").read_text())["normalization_mapping"]
    quantiles = {**mapping, "STATE": "QUANTILES", "ACTION": "QUANTILES"}
    edit(folder / "config.json", normalization_mapping=quantiles)
    for which in ("pre", "post"):

        def change(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
            for step in steps:
                if "norm_map" in step.get("config", {}):
                    step["config"]["norm_map"].update(STATE="QUANTILES", ACTION="QUANTILES")
            return steps

        with_steps(folder, which, change)


def without(name: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda steps: [step for step in steps if step["registry_name"] != name]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda folder: with_statistics(folder, "post", action__mean=torch.full((7,), float("nan"))),
            "the statistic mean of action, which MEAN_STD reads, is NaN or infinite",
        ),
        (
            lambda folder: with_statistics(folder, "pre", observation__state__std=torch.full((8,), float("inf"))),
            r"the statistic std of observation\.state, which MEAN_STD reads, is NaN or infinite",
        ),
        (
            lambda folder: with_statistics(folder, "post", action__std=torch.ones(1)),
            "the statistic std of action has 1 numbers, the feature 7",
        ),
        (
            lambda folder: with_statistics(folder, "post", action__mean=None, action__std=None),
            "action has no statistic mean, which MEAN_STD reads",
        ),
        (
            lambda folder: with_steps(folder, "post", without("unnormalizer_processor")),
            "action is to be normalised by MEAN_STD, but no step of its processors does it",
        ),
        (
            lambda folder: with_steps(folder, "pre", without("normalizer_processor")),
            r"observation\.state is to be normalised by MEAN_STD, but no step",
        ),
    ],
)
def test_processors_that_would_not_normalise_are_refused(save: Any, load: Any, spoil: Any, told: str) -> None:
    folder = save("act")
    spoil(folder)
    with pytest.raises(PolicyError, match=told):
        load(folder)


def test_quantiles_need_their_statistics(save: Any, load: Any) -> None:
    folder = save("act")
    use_quantiles(folder)
    load(folder)
    with_statistics(folder, "post", action__q01=None)
    with pytest.raises(PolicyError, match="action has no statistic q01, which QUANTILES reads"):
        load(folder)


def test_a_mode_that_processors_and_configuration_call_differently_is_a_warning(save: Any, load: Any) -> None:
    folder = save("act")
    mapping = json.loads((folder / "config.json").read_text())["normalization_mapping"]
    edit(folder / "config.json", normalization_mapping={**mapping, "ACTION": "MIN_MAX"})
    said = "action is normalised by MEAN_STD, as its processors say; its configuration says MIN_MAX."
    assert said in load(folder).warnings


def test_a_configuration_that_contradicts_itself_is_refused_with_its_own_complaint(save: Any, load: Any) -> None:
    folder = save("act")
    edit(folder / "config.json", n_action_steps=50)
    with pytest.raises(PolicyError, match=r"upper bound for the number of action steps.*Got 50 for `n_action_steps`"):
        load(folder)


def test_a_type_that_is_not_known_gets_no_guess(save: Any, load: Any) -> None:
    folder = save("act")
    edit(folder / "config.json", type="dm05")
    with pytest.raises(PolicyError, match=r"of type 'dm05', which this version does not drive \(it drives pi05, "):
        load(folder)


def test_frames_of_another_size_are_taken_where_lerobots_network_takes_them(save: Any, load: Any) -> None:
    """ACT's positions follow the frame; LeRobot checks nothing, so that a run warns (`frame_warning`) and goes on."""
    policy = load(save("act", size=96))
    seen = observe(1, size=64)
    assert policy.act(seen, None).actions.shape == (1, 6, 7)


def test_frames_of_another_size_that_lerobots_network_cannot_take_are_named(save: Any, load: Any) -> None:
    policy = load(save("diffusion", size=96, resize_shape=None))
    seen = observe(1, size=224)
    told = r"frames of 224×224 pixels by agentview; its checkpoint declares 96×96, so set `resolution: 96`"
    with pytest.raises(PolicyError, match=told):
        policy.act(seen, noise_for(policy, seen))


def test_cameras_that_declare_different_sizes_are_warned_of(save: Any, load: Any) -> None:
    folder = save("act")
    with_features(folder, "input_features", observation__images__image2=feature("VISUAL", 3, 48, 48))
    policy = load(folder)
    assert policy.info.frame_size is None
    told = "declares frames of 48×48 and 64×64 pixels; the protocol renders every camera in one size."
    assert any(told in warning for warning in policy.warnings)


@pytest.mark.parametrize(("policy_type", "declared"), [("act", (48, 48)), ("smolvla", None)])
def test_a_type_that_keeps_frames_declares_their_size(save: Any, load: Any, policy_type: str, declared: Any) -> None:
    """SmolVLA resizes whatever it is shown; ACT does not, and LeRobot says nothing."""
    assert load(save(policy_type, size=48)).info.frame_size == declared


def test_a_network_that_takes_one_size_is_refused_before_a_run_and_the_message_names_both(save: Any, load: Any) -> None:
    info = load(save("diffusion", size=96, resize_shape=None)).info
    assert (info.frame_size, info.frame_bound) == ((96, 96), True)
    with pytest.raises(UsageError, match=r"frames of 96×96 pixels .* renders 256×256\..*resolution: 96.*frames=resize"):
        frame_warning(info, 256)
    assert frame_warning(info, 96) is None


@pytest.mark.parametrize("policy_type", ["diffusion", "act"])
def test_frames_are_resized_as_lerobots_policy_server_does_it(save: Any, load: Any, policy_type: str) -> None:
    from dataclasses import replace

    from lerobot.async_inference.helpers import resize_robot_observation_image

    folder = save(policy_type, size=96, **({"resize_shape": None} if policy_type == "diffusion" else {}))
    policy, plain = load(folder, frames="resize"), load(folder)
    assert (policy.info.frame_size, policy.info.frame_bound) == (None, False)

    def by_lerobot(frame: np.ndarray) -> np.ndarray:
        return resize_robot_observation_image(torch.from_numpy(frame), (3, 96, 96)).permute(1, 2, 0).numpy()

    def shrunk(seen: Any) -> Any:
        images = {camera: by_lerobot(frame) for camera, frame in seen.images.items()}
        return replace(seen, images=images, history=tuple(shrunk(moment) for moment in seen.history))

    (seen,) = observe(1, size=256)
    noise = noise_for(policy, [seen])
    np.testing.assert_array_equal(policy.act([seen], noise).actions, plain.act([shrunk(seen)], noise).actions)
    assert policy.info.identity != plain.info.identity


def test_lerobots_groot_asks_the_hub_for_nvidias_base_model_whenever_it_is_built(monkeypatch: Any) -> None:
    """Why GR00T is refused here and asked behind its own server: there is no way to its architecture alone."""
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.groot import groot_n1_7
    from lerobot.policies.groot.configuration_groot import GrootConfig
    from lerobot.policies.groot.modeling_groot import GrootPolicy

    class Asked(Exception):
        pass

    def refuse(name: str, **options: Any) -> None:
        raise Asked(name)

    monkeypatch.setattr(groot_n1_7, "snapshot_download", refuse)
    inputs = {
        "observation.images.image": PolicyFeature(FeatureType.VISUAL, (3, 256, 256)),
        "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
    }
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (7,))}
    config = GrootConfig(device="cpu", input_features=inputs, output_features=outputs)
    with pytest.raises(Asked, match="nvidia/"):
        GrootPolicy(config)
    with pytest.raises(PolicyError, match=r"LeRobot 0.6.1 builds it from NVIDIA's base model alone.*gr00t://HOST:PORT"):
        load_policy("groot", weights="random")
