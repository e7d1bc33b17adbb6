"""The tables of policy types, versions, options and cameras, against LeRobot itself where it can be asked."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.errors import PolicyError, UsageError
from harness.policies.lerobot.cameras import plan_cameras
from harness.policies.lerobot.configs import config_class
from harness.policies.lerobot.families import CAMERA_ALIASES, FAMILIES, LIBERO_KEYS, family_of
from harness.policies.lerobot.options import parse_options
from harness.policies.lerobot.versions import check_versions
from harness.spec.observation import CAMERAS

IMAGE, IMAGE2 = LIBERO_KEYS["agentview"], LIBERO_KEYS["robot0_eye_in_hand"]


def test_the_table_holds_every_policy_type_of_this_lerobot() -> None:
    import lerobot.policies  # noqa: F401
    from lerobot.configs import PreTrainedConfig

    # Another test of this process may have loaded our own plugin.
    assert set(PreTrainedConfig.get_known_choices()) - {"vla_flow"} <= set(FAMILIES)


@pytest.mark.parametrize("policy_type", sorted(FAMILIES))
def test_every_field_that_the_table_names_is_one_of_the_configuration(policy_type: str) -> None:
    family, known = FAMILIES[policy_type], config_class(policy_type)
    fields = {field.name for field in dataclasses.fields(known)} | set(dir(known))
    named = [family.nfe_key, family.nfe_default_field, family.dtype_field, *family.noise_fields]
    named += [family.chunk_field] if not family.refusal else []
    assert [name for name in named if name and name != "action" and name not in fields] == []


@pytest.mark.parametrize(
    ("policy_type", "key"),
    [
        ("pi05", "num_inference_steps"),
        ("smolvla", "num_steps"),
        ("xvla", "num_denoising_steps"),
        ("groot", "num_inference_timesteps"),
        ("act", None),
    ],
)
def test_the_number_of_steps_has_a_name_of_its_own_in_each_type(policy_type: str, key: str | None) -> None:
    assert family_of(policy_type).nfe_key == key


def test_x_vla_is_declared_with_absolute_control() -> None:
    assert {name for name, family in FAMILIES.items() if family.control_mode == "absolute"} == {"xvla"}


def test_an_unknown_type_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'pi5'\. Did you mean 'pi05'"):
        family_of("pi5")


@pytest.mark.parametrize(
    ("lerobot", "transformers", "told"),
    [
        (None, "5.5.4", "LeRobot is not installed"),
        ("0.4.4", "5.5.4", "no processor pipelines"),
        ("0.5.1", "5.3.0", "lerobot#3603"),
        ("0.7.0", "5.5.4", "newer than 0.6"),
        ("0.6.1", "5.3.0", "scaled inside .* 0 %"),
        ("0.6.1", "5.6.0", "outside LeRobot 0.6's range"),
        ("0.6.1", None, "transformers is not installed"),
    ],
)
def test_versions_known_to_be_wrong_are_refused_with_the_reason(
    lerobot: str | None, transformers: str | None, told: str
) -> None:
    with pytest.raises(PolicyError, match=told):
        check_versions(lerobot, transformers)


def test_only_the_tested_version_is_accepted_without_a_word() -> None:
    assert check_versions("0.6.1", "5.5.4") == ()
    assert check_versions("0.6.0", "5.4.0") == ("LeRobot 0.6.0 is accepted, but only 0.6.1 is tested.",)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weight": "random"}, "'weight'. Did you mean 'weights'"),
        ({"weights": "none"}, "weights is 'none'; it is one of checkpoint, random"),
        ({"dtype": "float16"}, "dtype is 'float16'; it is one of float32, bfloat16"),
        ({"redirect": "yes"}, "one of refuse, follow"),
        ({"nfe": 0}, "nfe is 0; it is an integer of at least 1"),
        ({"seed": "one"}, "seed is 'one'"),
        ({"n_action_steps": True}, "n_action_steps is True"),
        ({"snapflow": "on"}, "snapflow is 'on'; it is true or false"),
        ({"rename": "agentview"}, "CAMERA=KEY"),
    ],
)
def test_a_wrong_option_is_a_usage_error(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_options(options)


def test_an_option_that_only_random_weights_take_is_a_field_of_the_configuration() -> None:
    assert parse_options({"weights": "random", "empty_cameras": 1}).config == {"empty_cameras": 1}
    with pytest.raises(UsageError, match="Unknown option of a lerobot policy 'empty_cameras'"):
        parse_options({"empty_cameras": 1})


def test_lerobot_s_own_keys_need_no_rename() -> None:
    plan = plan_cameras((IMAGE, IMAGE2), {}, {}, checkpoint="x")
    assert (plan.keys, plan.stored, plan.warnings) == (LIBERO_KEYS, True, ())


def test_the_checkpoint_s_rename_decides_before_any_name() -> None:
    swapped = {IMAGE: "observation.images.camera2", IMAGE2: "observation.images.camera1"}
    plan = plan_cameras(tuple(swapped.values()), swapped, {}, checkpoint="x")
    assert (plan.keys, plan.stored, plan.warnings) == (LIBERO_KEYS, True, ())


def test_known_names_are_used_when_nothing_is_stored_and_said() -> None:
    wanted = tuple(f"observation.images.{name}" for name in ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"))
    plan = plan_cameras(wanted, {}, {}, checkpoint="x")
    assert dict(plan.keys) == {"agentview": wanted[0], "robot0_eye_in_hand": wanted[1]}
    assert (plan.stored, plan.masked) == (False, wanted[2:])
    assert "agentview → observation.images.base_0_rgb" in plan.warnings[0]
    assert "right_wrist_0_rgb' stays empty" in plan.warnings[1]


def test_empty_cameras_are_masked_without_a_word() -> None:
    empty = "observation.images.empty_camera_0"
    plan = plan_cameras((IMAGE, IMAGE2, empty), {}, {}, checkpoint="x")
    assert (plan.masked, plan.warnings) == ((empty,), ())


def test_a_policy_with_one_camera_reads_one() -> None:
    assert tuple(plan_cameras((IMAGE,), {}, {}, checkpoint="x").keys) == ("agentview",)


def test_two_names_of_one_camera_are_not_guessed() -> None:
    with pytest.raises(PolicyError, match=r"none of them is known to be 'observation\.images\.agentview'"):
        plan_cameras((IMAGE, "observation.images.agentview"), {}, {}, checkpoint="x")


def test_the_user_s_rename_has_the_last_word() -> None:
    plan = plan_cameras((IMAGE, IMAGE2), {}, {"agentview": IMAGE2}, checkpoint="x")
    assert (dict(plan.keys), plan.stored, plan.masked) == ({"agentview": IMAGE2}, False, (IMAGE,))


def test_every_alias_is_a_camera_of_libero() -> None:
    assert set(CAMERA_ALIASES.values()) <= {*CAMERAS, None}
