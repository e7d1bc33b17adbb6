"""Real-time chunking in LeRobot's policies: the chunk that LeRobot's own guidance makes, row by row in any batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot_small import noise_for, observe

from harness.cluster.cells import require_clock
from harness.errors import UsageError
from harness.policies.lerobot.chunking import alike, guidance, old_chunk
from harness.spec.observation import PreviousChunk

GUIDED = ("pi05", "smolvla")


def held(observations: list[Any], chunks: np.ndarray, frozen: list[int], passed: list[int]) -> list[Any]:
    """The observations, with what is left of old chunks; -1 for none."""
    return [
        seen if n < 0 else replace(seen, previous=PreviousChunk(chunk[past:], n))
        for seen, chunk, n, past in zip(observations, chunks, frozen, passed, strict=True)
    ]


@pytest.mark.parametrize("policy_type", GUIDED)
def test_a_chunk_is_what_lerobots_guidance_makes_of_the_old_one(save: Any, load: Any, policy_type: str) -> None:
    from lerobot.policies.rtc.configuration_rtc import RTCConfig

    policy = load(save(policy_type))
    assert policy.info.rtc
    (seen,) = observe(1)
    noise = noise_for(policy, [seen])
    old = policy.act([seen], noise[:, ::-1].copy()).actions
    (continuing,) = held([seen], old, [3], [2])
    found = policy.act([continuing], noise, nfe=4).actions

    inner = policy.policy
    inner.config.rtc_config = RTCConfig(max_guidance_weight=4.0)
    inner.init_rtc_processor()
    with torch.no_grad():
        batch = policy.processors.pre(policy.reader.read([seen]))
        # What LeRobot's queue would have kept: the actions before the postprocessor.
        old_batch = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
        inner.config.rtc_config.enabled = False
        steps = {"num_steps": 4} if policy.family.nfe_route == "argument" else {}
        kept = inner.predict_action_chunk(old_batch, noise=torch.from_numpy(noise[:, ::-1].copy()))[:, 2:]
        inner.config.rtc_config.enabled = True
        if not steps:
            inner.config.num_steps = 4
        chunk = inner.predict_action_chunk(
            batch,
            noise=torch.from_numpy(noise),
            prev_chunk_left_over=kept,
            inference_delay=3,
            execution_horizon=4,
            **steps,
        )
        expected = policy.processors.post(chunk).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)
    inner.config.rtc_config = None
    free = policy.act([seen], noise, nfe=4).actions
    apart = [np.abs(chunk[0, :3, :6] - old[0, 2:5, :6]).mean() for chunk in (free, found)]
    assert apart[1] < apart[0] / 2


@pytest.mark.parametrize("policy_type", GUIDED)
def test_rows_of_a_batch_are_guided_each_by_its_own_old_chunk(save: Any, load: Any, policy_type: str) -> None:
    policy = load(save(policy_type))
    observations = observe(4)
    noise = noise_for(policy, observations)
    old = policy.act(observations, noise[::-1].copy()).actions
    mixed = held(observations, old, [2, -1, 1, 2], [2, 0, 4, 2])
    assert alike(mixed) == [[0, 3], [1], [2]]
    together = policy.act(mixed, noise).actions
    alone = [policy.act([seen], noise[i : i + 1]).actions[0] for i, seen in enumerate(mixed)]
    np.testing.assert_allclose(together, np.stack(alone), atol=2e-5)
    free = policy.act(observations, noise).actions
    np.testing.assert_allclose(together[1], free[1], atol=2e-5)
    assert np.abs(together[0] - free[0]).max() > 1e-3


@pytest.mark.parametrize("policy_type", GUIDED)
def test_the_old_chunk_is_told_as_the_policy_had_it(save: Any, load: Any, policy_type: str) -> None:
    policy = load(save(policy_type))
    kept = torch.randn(1, 6, 7, generator=torch.Generator().manual_seed(0))
    actions = policy.processors.post(kept.clone()).numpy()
    (seen,) = held(observe(1), actions, [2], [0])
    told = old_chunk([seen], policy.processors, policy.device)
    torch.testing.assert_close(told["prev_chunk_left_over"], kept, atol=1e-5, rtol=0)
    assert (told["inference_delay"], told["execution_horizon"]) == (2, 6)


def test_guidance_is_the_checkpoints_own_and_ends_with_the_decision(save: Any, load: Any) -> None:
    from lerobot.policies.rtc.configuration_rtc import RTCConfig

    policy = load(save("smolvla")).policy
    policy.config.rtc_config = stored = RTCConfig(enabled=False, max_guidance_weight=3.0)
    for nfe, limit in ((10, 3.0), (2, 2.0)):
        with guidance(policy, nfe):
            assert policy.config.rtc_config.enabled
            assert policy.model.rtc_processor.rtc_config.max_guidance_weight == limit
        assert policy.config.rtc_config is stored


def test_a_policy_that_cannot_continue_a_chunk_is_refused_with_one_message(save: Any, load: Any) -> None:
    for policy in (load(save("act")), load(save("diffusion")), load(save("smolvla"), compile="default")):
        with pytest.raises(UsageError, match="cannot run under the clock 'rtc'") as refused:
            require_clock("rtc", "p", policy.info)
        assert "\n" not in str(refused.value)
