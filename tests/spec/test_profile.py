"""Specification of hardware profiles and of how a node finds its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import SpecError, UsageError
from harness.spec.profile import explain_match, load_profile, match_profile, profile_names, require_profile

GB = 10**9

# Accelerator names as drivers and device trees spell them, and the memory the kernel then shows.
NODES = [
    ("NVIDIA A100-SXM4-80GB", 1000, "a100-sxm-80gb"),
    ("NVIDIA A100 80GB PCIe", 1000, "a100-pcie-80gb"),
    ("NVIDIA A800-SXM4-80GB", 1000, "a800-sxm-80gb"),
    ("NVIDIA H100 80GB HBM3", 1000, "h100-sxm-80gb"),
    ("NVIDIA H200", 1000, "h200"),
    ("NVIDIA B200", 1000, "b200"),
    ("NVIDIA GeForce RTX 4090", 64, "rtx-4090"),
    ("NVIDIA GeForce RTX 5090", 64, "rtx-5090"),
    ("NVIDIA L4", 64, "l4"),
    ("NVIDIA L40S", 64, "l40s"),
    ("NVIDIA GB10", 128, "dgx-spark-gb10"),
    ("NVIDIA Jetson Orin Nano Developer Kit", 8.0, "jetson-orin-nano-8gb"),
    ("NVIDIA Orin Nano Developer Kit", 8.0, "jetson-orin-nano-8gb"),
    ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", 8.0, "jetson-orin-nano-8gb-super"),
    ("NVIDIA Orin NX Developer Kit", 16.4, "jetson-orin-nx-16gb"),
    ("NVIDIA Jetson AGX Orin Developer Kit", 65.9, "jetson-agx-orin-64gb"),
    ("NVIDIA Jetson AGX Thor Developer Kit", 131.9, "jetson-thor-t5000"),
    ("NVIDIA Thor", 131.9, "jetson-thor-t5000"),
    (None, 16, "cpu"),
]

# Near misses: each must match nothing rather than its neighbour.
STRANGERS = [
    ("NVIDIA A100-SXM4-40GB", 1000),
    ("NVIDIA H100 PCIe", 1000),
    ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 1000),
    ("NVIDIA GH200 480GB", 1000),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 64),
    ("NVIDIA GeForce RTX 4090 D", 64),
    ("NVIDIA L40", 64),
    ("NVIDIA Jetson Orin Nano Developer Kit", 3.9),
    ("NVIDIA Orin NX Developer Kit", 8.0),
    ("NVIDIA Jetson AGX Orin Developer Kit", 32.2),
    ("Apple M4", 16),
]


def node(accelerator: str | None, memory_gb: float) -> dict[str, Any]:
    return {"node_id": "edge-1", "accelerator": accelerator, "memory_bytes": int(memory_gb * GB)}


@pytest.fixture
def own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hardware_profiles"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    return folder


def write(folder: Path, stem: str, **changes: Any) -> None:
    profile = {"name": stem, "title": stem, "kind": "gpu", "match": {"accelerator": ["Own GPU"]}, **changes}
    (folder / f"{stem}.yaml").write_text(yaml.safe_dump(profile))


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_and_power_mode_loads_with_a_source_for_each_figure(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    figures = [profile.memory_gb, profile.bandwidth_gb_s, profile.power_w, profile.l2_mb, *profile.tflops.values()]
    for figure in figures:
        assert figure is None or (figure.value > 0 and figure.source)


def test_the_figures_are_dense_and_unpublished_ones_say_so() -> None:
    assert load_profile("a100-sxm-80gb").tflops["bf16"].value == 312
    assert load_profile("dgx-spark-gb10").tflops["bf16"].confidence == "inferred"
    assert load_profile("jetson-thor-t5000").tflops["fp8"].value == 517


@pytest.mark.parametrize(("accelerator", "memory_gb", "name"), NODES)
def test_a_node_finds_its_profile(accelerator: str | None, memory_gb: float, name: str) -> None:
    match = explain_match(node(accelerator, memory_gb))
    assert match.profile is not None
    assert (match.profile.name, match.reasons) == (name, ())


@pytest.mark.parametrize(("accelerator", "memory_gb"), STRANGERS)
def test_a_near_miss_matches_nothing_and_says_why(accelerator: str, memory_gb: float) -> None:
    assert match_profile(node(accelerator, memory_gb)) is None
    assert explain_match(node(accelerator, memory_gb)).reasons


def test_a_module_with_other_memory_is_told_apart_by_it() -> None:
    reasons = explain_match(node("NVIDIA Jetson AGX Orin Developer Kit", 32.2)).reasons
    assert reasons == ("jetson-agx-orin-64gb does not fit: its memory is 32.2 GB, not 55 to 72",)


def test_two_profiles_that_fit_give_none_and_both_names(own_profiles: Path) -> None:
    write(own_profiles, "own-a")
    write(own_profiles, "own-b")
    match = explain_match(node("Own GPU", 64))
    assert match.profile is None
    assert match.reasons == ("several profiles fit: own-a, own-b; name one",)


def test_a_profile_in_the_working_directory_shadows_the_shipped_one(own_profiles: Path) -> None:
    write(own_profiles, "l4", title="Our L4", match={"accelerator": ["NVIDIA L4"], "host": ["edge-.*"]})
    assert load_profile("l4").title == "Our L4"
    assert explain_match(node("NVIDIA L4", 64)).profile == load_profile("l4")
    assert match_profile({**node("NVIDIA L4", 64), "node_id": "lab-1"}) is None


def test_naming_the_right_profile_or_one_of_its_power_modes_is_accepted() -> None:
    orin = node("NVIDIA Jetson AGX Orin Developer Kit", 65.9)
    assert require_profile("jetson-agx-orin-64gb", orin).name == "jetson-agx-orin-64gb"
    assert require_profile("jetson-agx-orin-64gb-30w", orin).name == "jetson-agx-orin-64gb-30w"


def test_naming_a_profile_that_contradicts_the_node_is_refused_with_both_names() -> None:
    with pytest.raises(UsageError) as caught:
        require_profile("a100-sxm-80gb", node("NVIDIA H100 80GB HBM3", 1000))
    for part in ("a100-sxm-80gb", "NVIDIA H100 80GB HBM3", "h100-sxm-80gb"):
        assert part in str(caught.value)


def test_a_gpu_profile_on_a_node_without_accelerator_is_refused() -> None:
    with pytest.raises(UsageError, match="no accelerator"):
        require_profile("l4", node(None, 16))


def test_the_cpu_profile_may_be_named_on_a_node_with_a_gpu() -> None:
    assert require_profile("cpu", node("NVIDIA L4", 64)).kind == "cpu"


def test_a_power_mode_inherits_no_rate_that_its_source_does_not_state() -> None:
    capped = load_profile("jetson-agx-orin-64gb-15w")
    assert capped.power_w is not None
    assert (capped.power_w.value, capped.bandwidth_gb_s, capped.tflops) == (15, None, {})
    assert capped.memory_gb == load_profile("jetson-agx-orin-64gb").memory_gb


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'rtx-4090'"):
        load_profile("rtx4090")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bandwith_gb_s": 3}, "bandwidth_gb_s"),
        ({"power_w": {"value": -1, "source": "a page", "confidence": "datasheet"}}, "power_w.value"),
        ({"power_w": {"value": 1, "source": "a page", "confidence": "rumour"}}, "rumour"),
        ({"power_w": {"value": 1, "confidence": "datasheet"}}, "power_w.source"),
        ({"match": {"accelerator": ["("]}}, "no regular expression"),
        ({"match": {"memory_gb": [9, 6]}}, "ascending"),
        ({"compute_capability": "nine"}, "compute_capability"),
        ({"name": "other"}, "must be the file's name"),
    ],
)
def test_a_profile_that_does_not_validate_is_refused_by_its_key(
    own_profiles: Path, changes: dict[str, Any], said: str
) -> None:
    write(own_profiles, "own", **changes)
    with pytest.raises(SpecError, match=said):
        load_profile("own")
