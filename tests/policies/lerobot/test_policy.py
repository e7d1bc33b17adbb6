"""Policies of the five tested types, each against LeRobot itself."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_small import FAMILIES, Spans, lerobot_actions, noise_for, observe

from harness.errors import PolicyError, UsageError
from harness.policies.base import Policy, TimedPolicy
from harness.policies.registry import make_policy
from harness.spec.observation import ANY_NFE, CAMERAS
from harness.spec.policy import parse_policy

WITH_STEPS = ("pi05", "pi0", "smolvla", "diffusion")
ONE_MOMENT: dict[str, dict[str, Any]] = {"diffusion": {"n_obs_steps": 1, "noise_scheduler_type": "DDIM"}}
"""Changes under which LeRobot's answer depends on one observation and the initial noise alone."""


@pytest.mark.parametrize("policy_type", FAMILIES)
def test_actions_equal_those_of_lerobot_to_the_bit(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type, **ONE_MOMENT.get(policy_type, {}))
    policy, observations = load(folder), observe(2)
    noise = noise_for(policy, observations)
    expected = lerobot_actions(folder, observations, noise)
    assert np.array_equal(policy.act(observations, noise).actions, expected)
    assert np.ptp(expected) > 0.05


@pytest.mark.parametrize("policy_type", WITH_STEPS)
def test_nfe_reaches_the_sampler(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type, **ONE_MOMENT.get(policy_type, {}))
    policy, observations = load(folder), observe(2)
    noise = noise_for(policy, observations)
    at_three = policy.act(observations, noise, nfe=3).actions
    assert np.array_equal(at_three, lerobot_actions(folder, observations, noise, nfe=3))
    assert not np.allclose(at_three, policy.act(observations, noise).actions, atol=1e-4)


@pytest.mark.parametrize("policy_type", FAMILIES)
def test_an_episode_gets_the_same_actions_in_any_batch_and_order(save: Any, load: Any, policy_type: str) -> None:
    policy, observations = load(save(policy_type)), observe(3)
    together = policy.act(observations, noise_for(policy, observations)).actions
    backwards = observations[::-1]
    reverse = policy.act(backwards, noise_for(policy, backwards)).actions[::-1]
    alone = np.concatenate([policy.act([o], noise_for(policy, [o])).actions for o in observations])
    np.testing.assert_allclose(reverse, together, atol=2e-5)
    np.testing.assert_allclose(alone, together, atol=2e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("policy_type", FAMILIES)
def test_the_global_generator_is_neither_read_nor_moved(save: Any, load: Any, policy_type: str) -> None:
    policy, observations = load(save(policy_type)), observe(2)
    noise = noise_for(policy, observations)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = policy.act(observations, noise).actions
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert np.array_equal(policy.act(observations, noise).actions, first)


@pytest.mark.parametrize("policy_type", WITH_STEPS)
def test_noise_decides_the_actions(save: Any, load: Any, policy_type: str) -> None:
    policy, observations = load(save(policy_type)), observe(1)
    noise = noise_for(policy, observations)
    assert noise is not None
    later = noise_for(policy, observe(1, decision=1))
    assert not np.allclose(policy.act(observations, noise).actions, policy.act(observations, later).actions, atol=1e-4)


@pytest.mark.parametrize(
    ("policy_type", "between"),
    [
        ("pi05", ["vision", "prefix", *["denoise_step"] * 10]),
        ("pi0", ["vision", "prefix", *["denoise_step"] * 10]),
        ("smolvla", ["vision", "prefix", *["denoise_step"] * 10]),
        ("diffusion", ["vision", *["denoise_step"] * 6]),
        ("act", ["prefix"]),
    ],
)
def test_components_are_timed_without_changing_the_actions(
    save: Any, load: Any, policy_type: str, between: list[str]
) -> None:
    policy, observations = load(save(policy_type)), observe(2)
    noise = noise_for(policy, observations)
    untimed = policy.act(observations, noise).actions
    policy.span = spans = Spans()
    assert np.array_equal(policy.act(observations, noise).actions, untimed)
    assert spans.seen == ["preprocess", *between, "postprocess"]
    assert isinstance(policy, Policy)
    assert isinstance(policy, TimedPolicy)


def test_all_that_lerobot_does_before_the_first_component_is_preprocessing(save: Any, load: Any) -> None:
    policy, observations = load(save("pi05")), observe(1)
    open_spans: list[str] = []
    during: list[tuple[str, ...]] = []

    @contextmanager
    def span(name: str) -> Iterator[None]:
        assert not open_spans, "components must not overlap"
        open_spans.append(name)
        yield
        open_spans.pop()

    prepare = policy.policy._preprocess_images

    def watched(batch: Any) -> Any:
        during.append(tuple(open_spans))
        return prepare(batch)

    policy.policy._preprocess_images = watched
    policy.span = span
    policy.act(observations, noise_for(policy, observations), nfe=2)
    assert during == [("preprocess",)]
    assert not open_spans


@pytest.mark.parametrize("policy_type", FAMILIES)
def test_a_policy_declares_what_its_checkpoint_stores(save: Any, load: Any, policy_type: str) -> None:
    folder = save(policy_type)
    info = load(folder).info
    assert info.cameras == CAMERAS
    assert (info.chunk_length, info.replan_interval) == ((4, 4) if policy_type == "diffusion" else (6, 4))
    assert info.checkpoint == str(folder)
    assert info.placement == "server"
    assert info.dtype == "float32"
    assert (info.nfe_options, info.default_nfe, info.noise_shape) == {
        "pi05": (ANY_NFE, 10, (6, 32)),
        "pi0": (ANY_NFE, 10, (6, 32)),
        "smolvla": (ANY_NFE, 10, (6, 32)),
        "diffusion": ((1, 2, 3, 4, 5, 6), 6, (8, 7)),
        "act": ((), None, None),
    }[policy_type]


def test_what_the_checkpoint_stores_decides_and_the_options_override(save: Any, load: Any) -> None:
    folder = save("pi05", num_inference_steps=4, n_action_steps=3)
    assert (load(folder).info.default_nfe, load(folder).info.replan_interval) == (4, 3)
    changed = load(folder, nfe=2, n_action_steps=5)
    assert (changed.info.default_nfe, changed.info.replan_interval) == (2, 5)
    assert changed.provenance["nfe_source"] == changed.provenance["replan_interval_source"] == "option"


def test_a_default_that_replaces_a_stored_value_is_told(save: Any, load: Any, caplog: pytest.LogCaptureFixture) -> None:
    import json

    folder = save("pi05")
    stored = json.loads((folder / "config.json").read_text())
    del stored["n_action_steps"], stored["num_inference_steps"]
    stored["chunk_size"] = 50
    (folder / "config.json").write_text(json.dumps(stored))
    policy = load(folder)
    assert policy.info.replan_interval == 50
    told = " ".join(policy.warnings)
    assert "no n_action_steps; LeRobot's default 50" in told
    assert "no num_inference_steps; LeRobot's default 10" in told
    assert "no n_action_steps" in caplog.text


def test_a_policy_without_a_denoising_loop_refuses_an_nfe(save: Any, load: Any) -> None:
    folder = save("act")
    with pytest.raises(UsageError, match="no denoising loop"):
        load(folder).act(observe(1), None, nfe=4)
    with pytest.raises(UsageError, match="nfe is 4, but act has no denoising loop"):
        load(folder, nfe=4)


def test_an_nfe_beyond_the_schedule_is_refused(save: Any, load: Any) -> None:
    policy, observations = load(save("diffusion")), observe(1)
    with pytest.raises(UsageError, match=r"NFE 7; it offers 1 to 6"):
        policy.act(observations, noise_for(policy, observations), nfe=7)


def test_noise_of_another_shape_is_refused(save: Any, load: Any) -> None:
    policy = load(save("pi05"))
    with pytest.raises(PolicyError, match=r"noise of shape None, expected \(1, 6, 32\)"):
        policy.act(observe(1), None)
    with pytest.raises(PolicyError, match=r"noise of shape \(2, 6, 32\)"):
        policy.act(observe(1), np.zeros((2, 6, 32), np.float32))


def test_a_policy_that_looks_back_is_given_its_history(save: Any, load: Any) -> None:
    policy, later = load(save("diffusion")), observe(2, decision=3)
    noise = noise_for(policy, later)
    assert policy.info.observation_steps == 2
    with pytest.raises(PolicyError, match="fill Observation"):
        policy.act([replace(o, history=()) for o in later], noise)
    still = [replace(o, history=(o,)) for o in later]
    assert not np.allclose(policy.act(later, noise).actions, policy.act(still, noise).actions, atol=1e-4)


def test_an_episode_s_first_observation_stands_for_those_before_it(save: Any, load: Any) -> None:
    policy, first = load(save("diffusion")), observe(1)
    noise = noise_for(policy, first)
    alone, repeated = replace(first[0], history=()), replace(first[0], history=(first[0],))
    assert np.array_equal(policy.act([alone], noise).actions, policy.act([repeated], noise).actions)


def test_a_missing_camera_is_named(save: Any, load: Any) -> None:
    policy, observations = load(save("act")), observe(1)
    blind = replace(observations[0], images={"agentview": observations[0].images["agentview"]})
    with pytest.raises(PolicyError, match="lacks camera 'robot0_eye_in_hand'"):
        policy.act([blind], None)


@pytest.mark.parametrize("policy_type", ["pi05", "pi0", "smolvla", "act"])
def test_random_weights_need_no_hub_and_follow_their_seed(
    narrow: None, policy_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("random weights must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    small = {"smolvla": "&num_vlm_layers=2"}
    text = f"lerobot:{policy_type}?weights=random&device=cpu{small.get(policy_type, '')}"
    policy, again, other = (make_policy(parse_policy(text + f"&seed={seed}")) for seed in (3, 3, 4))
    first, second, third = (dict(p.policy.named_parameters()) for p in (policy, again, other))  # type: ignore[attr-defined]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], third[name]) for name in first)
    assert policy.info.checkpoint_sha256 == again.info.checkpoint_sha256 != other.info.checkpoint_sha256
    assert policy.info.cameras == CAMERAS


def test_random_weights_act(narrow: None) -> None:
    spec = parse_policy("lerobot:pi05?weights=random&device=cpu&chunk_size=6&n_action_steps=4&empty_cameras=1")
    policy, observations = make_policy(spec), observe(2, size=48)
    actions = policy.act(observations, noise_for(policy, observations), nfe=2).actions
    assert actions.shape == (2, 6, 7)
    assert np.isfinite(actions).all()
    assert policy.info.policy_id == spec.label


def test_smolvla_at_random_has_the_published_size() -> None:
    from harness.policies.lerobot.configs import random_config
    from harness.policies.lerobot.families import family_of
    from harness.policies.lerobot.loading import policy_class
    from harness.policies.lerobot.options import LerobotOptions
    from harness.policies.lerobot.standins import SMOLVLM_VOCABULARY, without_hub

    config = random_config(family_of("smolvla"), LerobotOptions(weights="random", device="cpu"))
    with without_hub(SMOLVLM_VOCABULARY), torch.device("meta"):
        policy = policy_class("smolvla")(config)
    assert sum(parameter.numel() for parameter in policy.parameters()) == 450_046_176


def test_naming_the_kind_imports_neither_torch_nor_lerobot() -> None:
    code = (
        "import sys, harness.policies.registry as r, harness.policies.lerobot, harness.policies.lerobot.families\n"
        "assert 'lerobot' in r.POLICIES.kinds()\n"
        "print([m for m in ('torch', 'lerobot', 'transformers', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
