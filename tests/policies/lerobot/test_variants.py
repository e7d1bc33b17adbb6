"""Specification of the ways to run a policy faster: each leaves the answer alone, or nearly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_small import Spans, noise_for, observe
from numpy.typing import NDArray

from harness.errors import PolicyError, UsageError
from harness.latency.inputs import synthetic_observations, with_cameras
from harness.policies.ability import require_able
from harness.policies.graphs import GraphPool, KeptConstants
from harness.policies.lerobot.build import build
from harness.policies.lerobot.families import family_of
from harness.policies.lerobot.variants import record_parts
from harness.policies.quantize import Int8Products
from harness.spec.policy import PolicySpec

GENERATIVE = ("pi05", "pi0", "smolvla")


class Replays:
    """Records on a CPU: a replay runs the work again on the recorded arguments and overwrites the recorded answer."""

    def __init__(self) -> None:  # noqa: D107
        self.recorded: list[Callable[[], Any]] = []
        self.replayed = 0

    def warm(self, work: Callable[[], Any]) -> None:
        work()

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        answer = work()
        self.recorded.append(work)

        def replay() -> None:
            self.replayed += 1
            for old, new in zip(tensors_of(answer), tensors_of(work()), strict=True):
                old.copy_(new)

        # What a device would hold before the first replay: nothing that can be read.
        for tensor in tensors_of(answer):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
        return answer, replay


def tensors_of(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors_of(item)]
    if hasattr(value, "layers"):
        return [tensor for layer in value.layers for tensor in (layer.keys, layer.values)]
    return []


def closeness(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    return float(np.sum(left * right) / np.linalg.norm(left) / np.linalg.norm(right))


@pytest.mark.parametrize("policy_type", GENERATIVE)
def test_recorded_parts_answer_what_the_policy_answers_for_every_decision_and_nfe(
    save: Any, load: Any, policy_type: str
) -> None:
    folder = save(policy_type)
    eager, graphed = load(folder), load(folder)
    recorder = Replays()
    record_parts(graphed.policy, family_of(policy_type), recorder)
    for nfe in (1, 3):
        for seed in (0, 1, 2):
            observations = observe(2, seed=seed)
            noise = noise_for(eager, observations)
            expected = eager.act(observations, noise, nfe=nfe).actions
            np.testing.assert_allclose(graphed.act(observations, noise, nfe=nfe).actions, expected, atol=1e-6)
    # One recording each of vision, prefix and denoise step, whatever the NFE.
    assert len(recorder.recorded) == 3
    assert recorder.replayed == 6 * 2 + 3 * (1 + 3)


def test_another_batch_size_is_recorded_anew(save: Any, load: Any) -> None:
    folder = save("pi05")
    eager, graphed, recorder = load(folder), load(folder), Replays()
    record_parts(graphed.policy, family_of("pi05"), recorder)
    for count in (1, 2, 1):
        observations = observe(count)
        noise = noise_for(eager, observations)
        expected = eager.act(observations, noise, nfe=2).actions
        np.testing.assert_allclose(graphed.act(observations, noise, nfe=2).actions, expected, atol=1e-6)
    assert len(recorder.recorded) == 6


def test_a_part_that_cannot_be_recorded_says_which_and_what_to_do() -> None:
    class Refuses(Replays):
        def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
            raise RuntimeError("operation not permitted when stream is capturing")

    part = GraphPool(Refuses()).graphed(lambda x: x + 1, "toy's prefix")
    with pytest.raises(PolicyError, match=r"toy's prefix cannot be recorded.*not permitted.*remove graphs=true"):
        part(torch.ones(2))


def test_constants_from_the_host_are_copied_once() -> None:
    kept: dict[Any, torch.Tensor] = {}
    with KeptConstants(kept):
        first, again, other = (torch.tensor([1.0, value]) for value in (2.0, 2.0, 3.0))
        masked = torch.where(torch.tensor([True, False]), 0.0, -5.0)
    assert first is again
    assert other.tolist() == [1.0, 3.0]
    assert (masked.tolist(), masked.dtype) == ([0.0, -5.0], torch.float32)
    assert {"0.0", "-5.0"} <= {key[0] for key in kept}


def test_operators_of_a_recorded_part_can_still_be_counted(save: Any, load: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    folder = save("pi05")
    eager, graphed = load(folder), load(folder)
    record_parts(graphed.policy, family_of("pi05"), Replays())
    observations = observe(1)
    noise = noise_for(eager, observations)
    counted = []
    for policy in (eager, graphed):
        policy.act(observations, noise, nfe=2)
        with FlopCounterMode(display=False) as counter:
            policy.act(observations, noise, nfe=2)
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize("policy_type", GENERATIVE)
def test_merged_cameras_see_what_each_camera_saw(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type)
    apart, merged = load(folder), load(folder, merge_cameras=True)
    observations = observe(2)
    noise = noise_for(apart, observations)
    merged.span = spans = Spans()
    answers = [policy.act(observations, noise, nfe=2).actions for policy in (apart, merged)]
    np.testing.assert_allclose(answers[1], answers[0], atol=2e-5)
    assert spans.seen.count("vision") == 1


@pytest.mark.parametrize("policy_type", GENERATIVE)
def test_a_vision_tower_in_half_the_bits_answers_nearly_the_same(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type)
    observations = observe(2)
    full, half = load(folder), load(folder, vision="bfloat16")
    noise = noise_for(full, observations)
    left, right = (policy.act(observations, noise, nfe=2).actions for policy in (full, half))
    assert not np.array_equal(left, right)
    assert closeness(left, right) > 0.999
    dtypes = {name: p.dtype for name, p in half.policy.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "vision" in name} == {torch.bfloat16}


@pytest.mark.parametrize("scheme", ["int8", "int8-activations"])
@pytest.mark.parametrize("policy_type", ["pi05", "act"])
def test_int8_answers_nearly_the_same(save: Any, load: Any, policy_type: str, scheme: str) -> None:
    folder = save(policy_type)
    full, small = load(folder), load(folder, quantize=scheme)
    observations = observe(2)
    noise = noise_for(full, observations)
    left, right = (policy.act(observations, noise).actions for policy in (full, small))
    assert not np.array_equal(left, right)
    assert closeness(left, right) > 0.99
    assert small.provenance["quantize"] == scheme
    assert any(isinstance(part, Int8Products) for part in small.policy.modules()) == (scheme != "int8")


def test_parts_are_compiled_once_for_every_nfe_and_stay_timed(
    save: Any, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save("pi05")
    compiled: list[str] = []
    real = torch.compile

    def traced(part: Callable[..., Any], **options: Any) -> Any:
        compiled.append(options["mode"])
        # Dynamo without code generation: what is traced is the same, and takes seconds.
        return real(part, backend="eager", dynamic=False)

    monkeypatch.setattr(torch, "compile", traced)
    eager = load(folder)
    parts = load(folder, compile="default", compile_scope="parts")
    assert compiled == ["default"] * 3
    parts.span = spans = Spans()
    observations = observe(1)
    noise = noise_for(eager, observations)
    graphs = torch._dynamo.utils.counters["stats"]
    before, seen = graphs["unique_graphs"], []
    for nfe in (1, 2, 4):
        expected = eager.act(observations, noise, nfe=nfe).actions
        np.testing.assert_allclose(parts.act(observations, noise, nfe=nfe).actions, expected, atol=1e-5)
        seen.append(graphs["unique_graphs"] - before)
    assert seen[0] == seen[1] == seen[2]
    assert spans.seen.count("denoise_step") == 1 + 2 + 4
    assert parts.provenance["compile"] == "default/parts"


@pytest.mark.parametrize("weights", ["a checkpoint's", "random"])
def test_a_compiled_policy_leaves_the_products_of_the_next_one_as_they_were(
    save: Any, load: Any, narrow: None, weights: str, request: pytest.FixtureRequest
) -> None:
    folder = save("pi05") if weights != "random" else None
    before = torch.get_float32_matmul_precision()
    # LeRobot itself lowers it where a test runs its own commands in this process.
    request.addfinalizer(lambda: torch.set_float32_matmul_precision(before))
    torch.set_float32_matmul_precision("highest")
    if folder is not None:
        compiled = load(folder, compile="default")
    else:
        options = {"device": "cpu", "weights": "random", "compile": "default"}
        compiled = build(PolicySpec(kind="lerobot", path="pi05", options=options))
    assert compiled.policy.config.compile_model
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("policy_type", "options", "error"),
    [
        ("pi05", {"compile": "fast"}, "compile is 'fast'; it is one of default, reduce-overhead"),
        ("pi05", {"quantize": "int3"}, "quantize is 'int3'; it is one of int8, int8-activations"),
        ("pi05", {"graphs": True}, "graphs needs a CUDA device"),
        ("pi05", {"graphs": True, "compile": "default"}, "add compile_scope=parts"),
        ("pi05", {"cameras": 1}, "cameras is for random weights"),
        ("act", {"vision": "bfloat16"}, "act has none"),
        ("act", {"merge_cameras": True}, "act has none"),
        ("act", {"compile": "default"}, "add compile_scope=parts"),
    ],
)
def test_a_variant_that_cannot_be_built_says_what_to_change(
    save: Any, load: Any, policy_type: str, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(UsageError, match=error):
        load(save(policy_type), **options)


def test_random_weights_read_as_many_cameras_as_asked(narrow: None) -> None:
    from harness.policies.registry import make_policy
    from harness.spec.policy import parse_policy

    policy = make_policy(parse_policy("lerobot:act?weights=random&device=cpu&cameras=1"))
    assert policy.info.cameras == ("agentview",)
    wide = make_policy(parse_policy("lerobot:act?weights=random&device=cpu&cameras=3"))
    assert wide.info.cameras == ("agentview", "robot0_eye_in_hand", "camera3")
    actions = wide.act(with_cameras(synthetic_observations(1), wide.info.cameras), None).actions
    assert np.isfinite(actions).all()


def test_a_checkpoint_of_three_cameras_can_be_probed_and_not_run(save: Any, load: Any) -> None:
    from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature

    inputs = {f"observation.images.{key}": PolicyFeature(FeatureType.VISUAL, (3, 64, 64)) for key in ("l", "r", "top")}
    inputs["observation.state"] = PolicyFeature(FeatureType.STATE, (8,))
    modes = {"VISUAL": NormalizationMode.IDENTITY, "STATE": NormalizationMode.MEAN_STD}
    folder = save("act", input_features=inputs, normalization_mapping={**modes, "ACTION": NormalizationMode.MEAN_STD})
    with pytest.raises(PolicyError, match=r"reads cameras .*\?rename=agentview=.*camera3=….*probed, not run"):
        load(folder)
    names = {"agentview": "top", "robot0_eye_in_hand": "l", "camera3": "r"}
    policy = load(folder, rename=",".join(f"{name}=observation.images.{key}" for name, key in names.items()))
    assert policy.info.cameras == tuple(names)
    shown = with_cameras(synthetic_observations(1), policy.info.cameras)
    assert np.isfinite(policy.act(shown, None).actions).all()
    with pytest.raises(UsageError, match="camera3"):
        require_able("p", policy.info, {"libero_spatial": None})


GRAPHS = [
    {"graphs": True},
    {"graphs": True, "merge_cameras": True, "vision": "bfloat16"},
    {"graphs": True, "compile": "default", "compile_scope": "parts"},
    {"compile": "reduce-overhead", "compile_scope": "parts"},
]


@pytest.mark.gpu
@pytest.mark.parametrize("options", GRAPHS, ids=lambda options: ",".join(options))
@pytest.mark.parametrize("policy_type", ["pi05", "pi0"])
def test_on_cuda_a_faster_way_answers_as_the_eager_one(
    save: Any, load: Any, policy_type: str, options: dict[str, Any]
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    folder = save(policy_type)
    eager, fast = load(folder, device="cuda"), load(folder, device="cuda", **options)
    for nfe in (1, 4):
        for seed in (0, 1, 2):
            observations = observe(1, seed=seed)
            noise = noise_for(eager, observations)
            expected = eager.act(observations, noise, nfe=nfe).actions
            found = fast.act(observations, noise, nfe=nfe).actions
            assert closeness(found, expected) > (0.999 if "vision" in options else 0.99999)
            if set(options) == {"graphs"}:
                # The same kernels on the same data.
                np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.gpu
def test_a_graphed_policy_takes_batches_of_other_sizes_in_turn(save: Any, load: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    folder = save("pi05")
    eager, graphed = load(folder, device="cuda"), load(folder, device="cuda", graphs=True)
    for count in (1, 3, 1, 3):
        observations = observe(count, seed=count)
        noise = noise_for(eager, observations)
        expected = eager.act(observations, noise, nfe=3).actions
        np.testing.assert_allclose(graphed.act(observations, noise, nfe=3).actions, expected, atol=1e-5)
