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
        {"placement_seed": 1000, "placement_seeding": "per_task"},
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
    stored = {**manifest(preset="lerobot-seed0"), "version.mujoco": "3.4"}
    with pytest.raises(UsageError, match="init_states: 'sampled:1' against 'ab'; version"):
        require_equal_manifests(manifest(placements="sampled"), stored)


def test_the_hash_does_not_depend_on_key_order() -> None:
    base = manifest()
    assert manifest_sha256(dict(reversed(base.items()))) == manifest_sha256(base)


def test_comparing_two_protocols_names_each_differing_key_with_both_values() -> None:
    with pytest.raises(UsageError, match=r"replan_interval: 'checkpoint' against 5; resolution: 256 against 128"):
        require_equal_manifests(manifest(), manifest(resolution=128, replan_interval=5))
    require_equal_manifests(manifest(), manifest())


def test_ledgers_from_before_evaluators_seeding_keep_their_hash_as_lerobot_seed0() -> None:
    """The shipped ledgers' manifest of libero_spatial, key by key, is what a protocol without seeding makes."""
    old = manifest(preset="lerobot-seed0")
    assert old == {
        "suite": "libero_spatial",
        "max_steps": 280,
        "settle_steps": 10,
        "replan_interval": "checkpoint",
        "resolution": 256,
        "image_orientation": "rotated_180",
        "control_hz": 20,
        "control_mode": "relative",
        "placement_seed": 0,
        "success_rule": "goal_predicates",
        "init_states": "ab",
        "clock": "synchronous",
        "renderer": "none",
        "version.mujoco": "3.3.2",
        "version.robosuite": "1.4.0",
    }
    assert {key: value for key, value in manifest().items() if old.get(key) != value} == {
        "placement_seed": 1000,
        "placement_seeding": "per_episode",
    }


def test_a_suite_as_an_old_ledger_recorded_it_keeps_its_hash() -> None:
    """Ledgers hold suites with every key filled in: a preset's name, its seed of then, and no word on seeding."""
    assert manifest(placement_seed=0) == manifest(preset="lerobot-seed0")
    recorded = Protocol.model_validate("lerobot").model_dump()
    assert Protocol.model_validate(recorded) == Protocol.model_validate("lerobot")


def test_sampled_placements_know_nothing_of_an_evaluators_seeding() -> None:
    assert manifest(placements="sampled") == manifest(preset="lerobot-seed0", placements="sampled")
    with pytest.raises(ValueError, match="placement_seeding 'per_episode' says how fixtures are placed"):
        manifest(placements="sampled", placement_seeding="per_episode")
