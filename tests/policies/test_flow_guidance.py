"""Real-time chunking in `flow`: a chunk that continues the old one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.policies.flow.checkpoint import random_network
from harness.policies.flow.guidance import OldChunk, guidance_weight, guided, prefix_weights, target_of
from harness.policies.flow.network import FlowConfig
from harness.policies.flow.policy import FlowPolicy
from harness.policies.registry import make_policy
from harness.spec import parse_policy
from harness.spec.observation import CAMERAS, Observation, PreviousChunk


@pytest.fixture(scope="module")
def flow() -> FlowPolicy:
    """The shipped teacher: guidance has to work on what was trained."""
    return make_policy(parse_policy("flow"))


def observe(n: int = 1) -> list[Observation]:
    rng = np.random.default_rng(3)
    images = [{camera: rng.integers(0, 255, (128, 128, 3), dtype=np.uint8) for camera in CAMERAS} for _ in range(n)]
    return [
        Observation("pick up the black bowl", rng.normal(0, 0.1, 8).astype(np.float32), each, episode_key=f"{i}")
        for i, each in enumerate(images)
    ]


def noise(seed: int, n: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 10, 7), dtype=np.float32)


def test_weights_are_one_while_frozen_and_fall_to_nothing():
    weights = prefix_weights(3, 7).tolist()
    assert weights[:3] == [1, 1, 1]
    shares = [(7 - i) / 5 for i in range(3, 7)]
    assert weights[3:] == pytest.approx([share * np.expm1(share) / (np.e - 1) for share in shares])
    assert prefix_weights(7, 7).tolist() == [1.0] * 7


@pytest.mark.parametrize(
    ("time", "nfe", "weight"), [(1.0, 10, 5.0), (1.0, 1, 1.0), (0.5, 10, 2.0), (0.2, 10, 0.25 / (0.04 / 0.68))]
)
def test_the_pull_is_that_of_the_paper_and_never_more_than_a_step_can_go(time, nfe, weight):
    assert guidance_weight(time, nfe) == pytest.approx(weight)


def test_guidance_is_the_gradient_of_the_error_through_the_denoiser():
    matrix = torch.randn(7, 7, generator=torch.Generator().manual_seed(0))
    x, target = torch.randn(2, 10, 7), torch.randn(2, 10, 7)
    weights = torch.rand(2, 10, 1)
    time, weight = torch.full((2,), 0.5), torch.tensor(guidance_weight(0.5, 10))
    found = guided(lambda noisy: noisy @ matrix, x, time, weight, OldChunk(target, weights))
    jacobian = torch.eye(7) - 0.5 * matrix
    error = (target - x @ jacobian) * weights
    torch.testing.assert_close(found, x @ matrix - 2.0 * error @ jacobian.T)


def test_a_chunk_continues_the_old_one_where_it_is_frozen(flow):
    (seen,) = observe()
    old = flow.act([seen], noise(0)).actions[0]
    (free,) = flow.act([seen], noise(1)).actions
    held = replace(seen, previous=PreviousChunk(old, frozen=4))
    (continued,) = flow.act([held], noise(1)).actions
    apart = [np.abs(chunk - old)[:4, :6].mean() for chunk in (free, continued)]
    assert apart[0] > 1e-3
    assert apart[1] < apart[0] / 2


def test_an_old_chunk_of_another_episode_changes_nothing(flow):
    first, second = observe(2)
    old = flow.act([first], noise(0)).actions[0]
    held = replace(first, previous=PreviousChunk(old[3:], frozen=2))
    alone = [flow.act([seen], noise(5)).actions[0] for seen in (held, second)]
    together = flow.act([held, second], np.concatenate([noise(5), noise(5)])).actions
    np.testing.assert_allclose(together, np.stack(alone), atol=2e-5)


def test_a_horizon_limits_what_guides_but_for_what_is_frozen(flow):
    (seen,) = observe()
    old = flow.act([seen], noise(0)).actions[0]
    held = replace(seen, previous=PreviousChunk(old, frozen=3))
    weights = [
        target_of([held], 10, flow.network.normalization, flow.device, horizon).weights[0, :, 0].tolist()
        for horizon in (None, 5, 2)
    ]
    assert weights[0] == pytest.approx(prefix_weights(3, 10).tolist())
    assert weights[1] == pytest.approx(prefix_weights(3, 5).tolist() + [0.0] * 5)
    assert weights[2] == [1.0] * 3 + [0.0] * 7
    short = make_policy(parse_policy("flow?rtc_horizon=5"))
    assert not np.allclose(short.act([held], noise(1)).actions, flow.act([held], noise(1)).actions, atol=1e-4)
    assert short.info.identity.configuration != flow.info.identity.configuration


def test_random_weights_of_other_sizes_can_be_guided():
    policy = FlowPolicy(random_network(FlowConfig(), 0), device="cpu")
    (seen,) = observe()
    held = replace(seen, previous=PreviousChunk(np.zeros((1, 7), dtype=np.float32), frozen=1))
    assert np.isfinite(policy.act([held], noise(0), nfe=1).actions).all()
    assert policy.info.rtc


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("graphs", ["", "&graphs=true"])
def test_a_gpu_guides_as_a_cpu_does(graphs):
    cpu, gpu = (make_policy(parse_policy(f"flow:chunk50?device={name}")) for name in ("cpu", f"cuda{graphs}"))
    observations = observe(4)
    noises = np.random.default_rng(1).standard_normal((4, 50, 7), dtype=np.float32)
    old = cpu.act(observations, noises[::-1].copy(), nfe=10).actions
    held = [replace(seen, previous=PreviousChunk(old[i][10:], frozen=i)) for i, seen in enumerate(observations)]
    np.testing.assert_allclose(
        gpu.act(held, noises, nfe=10).actions, cpu.act(held, noises, nfe=10).actions, atol=5e-3, rtol=0
    )
