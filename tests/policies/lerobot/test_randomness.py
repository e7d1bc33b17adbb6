"""Draws inside a sampler, answered from keyed noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from harness.policies.lerobot.randomness import KeyedDraws, generators
from harness.schedule.keys import decision_noise, episode_key

NOISE = np.stack([decision_noise(episode_key("", "libero_spatial", n, 0, 0), 0, (4,)) for n in range(3)])

DRAWS: dict[str, Callable[[int], torch.Tensor]] = {
    "randn": lambda batch: torch.randn(batch, 5),
    "randn of a size": lambda batch: torch.randn(size=(batch, 5), generator=None, device="cpu", dtype=torch.float32),
    "randn of a tuple": lambda batch: torch.randn((batch, 5)),
    "randn_like": lambda batch: torch.randn_like(torch.empty(batch, 5)),
    "rand": lambda batch: torch.rand(batch, 5),
    "rand_like": lambda batch: torch.rand_like(torch.empty(batch, 5)),
    "normal": lambda batch: torch.normal(mean=1.0, std=2.0, size=(batch, 5), dtype=torch.float32, device="cpu"),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_row_depends_on_its_own_key_alone(name: str) -> None:
    draw = DRAWS[name]
    with KeyedDraws(generators(NOISE)):
        together = [draw(3), draw(3)]
    with KeyedDraws(generators(NOISE[[2, 0]])):
        others = [draw(2), draw(2)]
    for first, second in zip(together, others, strict=True):
        assert torch.equal(first[[2, 0]], second)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[0][0], together[0][1])


@pytest.mark.parametrize("name", DRAWS)
def test_the_global_generator_stays_where_it_is(name: str) -> None:
    before = torch.get_rng_state()
    with KeyedDraws(generators(NOISE)):
        DRAWS[name](3)
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_have_the_distribution_asked_for() -> None:
    rows = np.zeros((1, 4), np.float32)
    with KeyedDraws(generators(rows)):
        normal = torch.normal(mean=1.0, std=2.0, size=(1, 20_000))
        uniform = torch.rand(1, 20_000)
    assert abs(float(normal.mean()) - 1) < 0.06
    assert abs(float(normal.std()) - 2) < 0.06
    assert 0 <= float(uniform.min()) < 0.01
    assert 0.99 < float(uniform.max()) < 1


def test_dtype_is_kept_and_a_generator_of_the_sampler_s_own_is_respected() -> None:
    own = torch.Generator().manual_seed(7)
    with KeyedDraws(generators(NOISE)) as mode:
        assert torch.randn(3, 2, dtype=torch.float64).dtype == torch.float64
        assert torch.randn_like(torch.empty(3, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16
        drawn = torch.randn(3, 2, generator=own)
    assert torch.equal(drawn, torch.randn(3, 2, generator=torch.Generator().manual_seed(7)))
    assert mode.foreign == []


def test_a_draw_that_is_not_of_the_batch_is_noted() -> None:
    with KeyedDraws(generators(NOISE)) as mode:
        torch.randn(5, 2)
    assert mode.foreign == [(5, 2)]
