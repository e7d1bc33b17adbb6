"""The protocol manifest and its hash."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.spec import Protocol, manifest_sha256, require_equal_manifests


def manifest(**changes: object) -> dict[str, object]:
    protocol = Protocol.model_validate({"preset": "lerobot", **changes})
    return protocol.manifest(
        "libero_spatial", init_states_sha256="ab", versions={"mujoco": "3.3.2", "robosuite": "1.4.0"}, renderer="none"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"settle_steps": 9},
        {"resolution": 128},
        {"replan_interval": 5},
        {"max_steps": {"libero_spatial": 220}},
        {"image_orientation": "raw"},
        {"control_hz": 10},
        {"control_mode": "absolute"},
        {"placement_seed": 1},
        {"placements": "sampled"},
        {"action_noise": 0.1},
    ],
)
def test_every_rule_that_decides_a_score_changes_the_hash(change: dict[str, object]) -> None:
    assert manifest_sha256(manifest(**change)) != manifest_sha256(manifest())


def test_the_length_of_another_suite_does_not_change_the_hash() -> None:
    assert manifest_sha256(manifest(max_steps={"libero_10": 1})) == manifest_sha256(manifest())


def test_sampled_placements_are_no_init_states_and_a_protocol_without_noise_keeps_the_hash_it_always_had() -> None:
    assert manifest(placements="sampled")["init_states"] == "sampled:1"
    assert "action_noise" not in manifest()
    with pytest.raises(UsageError, match="init_states: 'sampled:1' against 'ab'; version"):
        require_equal_manifests(manifest(placements="sampled"), {**manifest(), "version.mujoco": "3.4"})


def test_the_hash_does_not_depend_on_key_order() -> None:
    base = manifest()
    assert manifest_sha256(dict(reversed(base.items()))) == manifest_sha256(base)


def test_comparing_two_protocols_names_each_differing_key_with_both_values() -> None:
    with pytest.raises(UsageError, match=r"replan_interval: 'checkpoint' against 5; resolution: 256 against 128"):
        require_equal_manifests(manifest(), manifest(resolution=128, replan_interval=5))
    require_equal_manifests(manifest(), manifest())
