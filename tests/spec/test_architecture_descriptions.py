"""Specification of architecture descriptions: their work agrees with what is counted in the real model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import SpecError, UsageError
from harness.spec.architecture import Architecture, architecture_names, load_architecture
from harness.spec.resolve import parse

TOWER = {"name": "t", "component": "prefix", "layers": 2, "width": 8, "heads": 2, "mlp": 16, "tokens": 3}


def described(**tower: Any) -> Architecture:
    towers = [{**TOWER, **tower}]
    return parse(Architecture, {"name": "a", "title": "a", "source": "none at all", "towers": towers}, "a.yaml")


def test_the_work_of_a_small_tower_is_that_of_the_formula() -> None:
    (work,) = described().work()
    maps = 4 * 8 * 8 + 2 * 8 * 16
    assert work.flops_by_format == {"bf16": 2 * 2 * 3 * maps + 4 * 2 * 3 * 3 * 8}
    assert work.parameter_bytes == 2 * (2 * (maps + 2 * 8) + 8)
    assert work.kv_bytes == 0


def test_a_tower_that_caches_writes_what_one_with_a_context_reads() -> None:
    (writes,) = described(caches=True, kv_heads=1).work()
    (reads,) = described(component="denoise_step", context=3, tokens=1, kv_heads=1).work()
    assert writes.kv_bytes == reads.kv_bytes == 2 * 2 * 4 * 3 * 2


def test_cameras_multiply_the_work_and_not_the_weights() -> None:
    (one,), (two,) = described(component="vision").work(), described(component="vision", sequences=2).work()
    assert two.flops_by_format["bf16"] == 2 * one.flops_by_format["bf16"]
    assert two.parameter_bytes == one.parameter_bytes


def test_int8_halves_the_weights_of_bf16_and_leaves_attention_in_bf16() -> None:
    half, eighth = load_architecture("student-650m"), load_architecture("student-650m-int8")
    for before, after in zip(half.work(), eighth.work(), strict=True):
        assert after.parameter_bytes == before.parameter_bytes / 2
        assert set(after.flops_by_format) == {"int8", "bf16"}
        assert sum(after.flops_by_format.values()) == sum(before.flops_by_format.values())


def test_the_student_has_about_650_million_parameters_and_says_that_its_expert_is_assumed() -> None:
    student = load_architecture("student-650m")
    assert student.parameters == pytest.approx(650e6, rel=0.03)
    assert "not published" in student.notes


def test_pi05_has_the_size_of_its_published_checkpoint() -> None:
    pi05 = load_architecture("pi05")
    assert pi05.parameters == pytest.approx(4_143_404_816, rel=1e-3)
    # model.safetensors of lerobot/pi05_base: 9,354,050,752 bytes.
    assert pi05.memory_bytes == pytest.approx(9_354_050_752, rel=0.005)


def test_pi05_as_described_does_the_work_that_is_counted_in_lerobots_own_model(
    counted_pi05: Mapping[str, Mapping[str, Any]],
) -> None:
    for work in load_architecture("pi05").work():
        row = counted_pi05[work.component]
        assert sum(work.flops_by_format.values()) == pytest.approx(row["flops"], rel=1e-3)
        assert work.parameter_bytes == pytest.approx(row["parameter_bytes"], rel=0.005)
        assert work.kv_bytes == pytest.approx(row["kv_bytes"] or 0, rel=1e-3)
        assert work.activation_bytes == pytest.approx(row["activation_bytes"], rel=0.5)
        assert work.kernels == pytest.approx(row["operators"], rel=0.05)


def test_what_is_counted_in_full_size_pi05_are_its_known_parameters(
    counted_pi05: Mapping[str, Mapping[str, Any]],
) -> None:
    """Parameter counts of LeRobot's Pi0.5: vision tower and projector in float32; Gemma 2B's layers in bfloat16."""
    assert counted_pi05["vision"]["parameter_bytes"] == pytest.approx(4 * (412_442_352 + 2_361_344), rel=1e-3)
    assert counted_pi05["prefix"]["parameter_bytes"] == pytest.approx(2 * 1_981_884_416, rel=1e-3)
    modulation = 37 * 3_148_800
    expert = 427_932_672 - modulation
    assert counted_pi05["denoise_step"]["parameter_bytes"] == pytest.approx(2 * expert + 4 * modulation, rel=0.01)


@pytest.fixture(scope="module")
def counted_pi05() -> Mapping[str, Mapping[str, Any]]:
    """One decision of full-size Pi0.5, counted without a single weight in memory."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("lerobot")
    from lerobot.configs import FeatureType, PolicyFeature

    from harness.latency.counts import rows_of
    from harness.latency.operators import OperatorCounter
    from harness.policies.lerobot.configs import config_class
    from harness.policies.lerobot.families import LIBERO_KEYS, family_of
    from harness.policies.lerobot.loading import policy_class
    from harness.policies.lerobot.spans import install

    frame = PolicyFeature(FeatureType.VISUAL, (3, 256, 256))
    config = config_class("pi05")(
        input_features={
            **dict.fromkeys(LIBERO_KEYS.values(), frame),
            "observation.state": PolicyFeature(FeatureType.STATE, (8,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
        device="cpu",
        dtype="bfloat16",
    )
    config.device = "meta"
    with torch.device("meta"):
        policy = policy_class("pi05")(config).eval()
        images, seen = [torch.zeros(1, 3, 224, 224)] * 2, [torch.zeros(1, dtype=torch.bool)] * 2
        words, mask = torch.zeros(1, 200, dtype=torch.int64), torch.zeros(1, 200, dtype=torch.bool)
        noise = torch.zeros(1, 50, 32)
    counter = OperatorCounter(policy.parameters())
    install(policy, family_of("pi05").sites, counter.span)
    with torch.inference_mode(), counter:
        policy.model.sample_actions(images, seen, words, mask, noise=noise, num_steps=2)
    return {row["component"]: row for row in rows_of(counter)}


def test_every_shipped_description_loads_with_its_variants() -> None:
    names = architecture_names()
    assert {"pi05", "student-650m", "student-650m-int8", "student-650m-int8-weights"} <= set(names)
    for name in names:
        assert load_architecture(name).name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 9}, "does not split over 2 heads"),
        ({"kv_heads": 3}, "no multiple of kv_heads 3"),
        ({"layers": 0}, "layers"),
        ({"hads": 2}, "did you mean 'heads'"),
    ],
)
def test_a_wrong_description_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        described(**change)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'student-650m"):
        load_architecture("student-65m")
    other = tmp_path / "mine.yaml"
    other.write_text(yaml.safe_dump({"name": "yours", "title": "a", "source": "none", "towers": [TOWER]}))
    with pytest.raises(SpecError, match="must be the file's name, 'mine'"):
        load_architecture(str(other))
