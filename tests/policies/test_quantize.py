"""Specification of quantised policies: what is stored, what is multiplied, and that no row sees its batch."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest

from harness.policies.registry import make_policy
from harness.spec.observation import CAMERAS, Observation
from harness.spec.policy import parse_policy

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

from torch import nn  # noqa: E402

from harness.latency.operators import OperatorCounter  # noqa: E402
from harness.policies.quantize import Int8Products, quantize, weight_bytes  # noqa: E402

SCHEMES = ("int8", "int8-activations")


def layers(*widths: int) -> nn.Sequential:
    """Linear layers with weights of very unlike channels."""
    generator = torch.Generator().manual_seed(0)
    made = [nn.Linear(i, o) for i, o in pairwise(widths)]
    for layer in made:
        scales = torch.logspace(-3, 1, layer.out_features)[:, None]
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * scales
    return nn.Sequential(*made).eval().requires_grad_(False)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_are_stored_as_int8_with_a_scale_per_output_channel(scheme: str) -> None:
    before = layers(64, 32)
    after = copy.deepcopy(before)
    quantize(after, scheme)
    stored = after[0].weight
    assert stored.qdata.dtype == torch.int8
    assert stored.scale.numel() == 32
    # Symmetric, to nearest: each weight is off by half a step of its own channel at most.
    off = (stored.dequantize() - before[0].weight).abs()
    assert bool((off <= 0.501 * stored.scale.view(32, 1)).all())
    assert weight_bytes(after) == 64 * 32 + 32 * 4 + 32 * 4


def test_activations_are_rounded_token_by_token_and_multiplied_as_integers() -> None:
    model = layers(64, 32)
    x = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(1)) * torch.logspace(-2, 2, 5)[:, None]
    quantize(model, "int8-activations")
    answer = model(x).numpy()
    weight, scales = model[0].weight.qdata.numpy().astype(np.int64), model[0].weight.scale.numpy().ravel()
    for row, tokens in enumerate(x.numpy()):
        for column, token in enumerate(tokens):
            step = np.abs(token).max() / 127
            exact = (weight @ np.rint(token / step).astype(np.int64)) * step * scales + model[0].bias.numpy()
            np.testing.assert_allclose(answer[row, column], exact, rtol=1e-4, atol=1e-5 * np.abs(exact).max())


def test_a_token_of_zeros_answers_the_bias() -> None:
    model = layers(16, 8)
    quantize(model, "int8-activations")
    assert torch.equal(model(torch.zeros(1, 16))[0], model[0].bias)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_products_are_counted_in_the_format_that_they_run_in(scheme: str) -> None:
    model = layers(64, 32)
    quantize(model, scheme)
    counter = OperatorCounter(model.parameters())
    with torch.inference_mode(), counter, counter.span("prefix"):
        model(torch.ones(4, 64))
    assert counter.calls[-1].flops_by_format == {"fp32" if scheme == "int8" else "int8": 2 * 4 * 64 * 32}


def test_a_width_that_int8_products_do_not_take_keeps_float_activations() -> None:
    model = layers(7, 16, 16, 7)
    quantize(model, "int8-activations")
    assert [isinstance(layer, Int8Products) for layer in model] == [False, True, False]
    assert all(layer.weight.qdata.dtype == torch.int8 for layer in model)


def test_layers_that_inference_does_not_read_are_left() -> None:
    model = layers(16, 16, 16)
    quantize(model, "int8-activations", lambda name: name != "0")
    assert type(model[0]) is nn.Linear
    assert not hasattr(model[0].weight, "qdata")
    assert isinstance(model[1], Int8Products)


def observed(n: int) -> list[Observation]:
    rng = np.random.default_rng(0)
    images = [{camera: rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for camera in CAMERAS} for _ in range(n)]
    return [Observation("pick up the bowl", rng.standard_normal(8).astype(np.float32), each) for each in images]


NOISE = np.random.default_rng(1).standard_normal((3, 10, 7)).astype(np.float32)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_flow_is_another_policy_that_answers_nearly_the_same_alone_as_in_a_batch(scheme: str) -> None:
    full, small, again = (
        make_policy(parse_policy(f"flow:student?device=cpu{option}"))
        for option in ("", f"&quantize={scheme}", f"&quantize={scheme}")
    )
    seen = observed(3)
    answer = small.act(seen, NOISE, nfe=2).actions
    assert np.array_equal(answer, again.act(seen, NOISE, nfe=2).actions)
    difference = np.abs(answer - full.act(seen, NOISE, nfe=2).actions)
    assert 0 < difference.max() < 0.1
    alone = np.concatenate([small.act([seen[n]], NOISE[[n]], nfe=2).actions for n in range(3)])
    np.testing.assert_allclose(alone, answer, atol=1e-5)
    assert small.provenance["quantize"] == scheme
    parts = full.info.identity.compare(small.info.identity)
    assert parts.differ == ("configuration",)
    assert small.info.rtc == (scheme == "int8")
    # Two thirds of its parameters lie in linear layers; the rest stays in float32.
    assert weight_bytes(small.network) < 0.55 * weight_bytes(full.network)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_int8_products_of_a_gpu_are_those_of_the_cpu_and_can_be_recorded() -> None:
    for rows in (1, 16, 17, 160):
        here, there = layers(192, 768), layers(192, 768).cuda()
        quantize(here, "int8-activations")
        quantize(there, "int8-activations")
        x = torch.randn(rows, 192, generator=torch.Generator().manual_seed(rows))
        given = x.cuda()
        with torch.inference_mode():
            expected = there(given)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                recorded = there(given)
            graph.replay()
            torch.testing.assert_close(expected.cpu(), here(x), rtol=1e-5, atol=1e-4)
            assert torch.equal(recorded, expected)
