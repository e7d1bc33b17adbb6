"""Specification of counting: FLOPs and bytes of real policies against formulas written by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import probe_stubs
import pytest
import torch
from torch import nn

from harness.latency.calibrate import Calibration
from harness.latency.counts import METHOD, count, count_rows
from harness.latency.inputs import synthetic_observations
from harness.latency.isolated import run_isolated
from harness.latency.kernels import Activity, KernelTime, attribute
from harness.latency.node import describe_node
from harness.latency.operators import OperatorCounter
from harness.latency.probe import Labels
from harness.ledger.conform import to_table
from harness.policies.flow.network import FlowConfig
from harness.policies.flow.policy import FlowPolicy
from harness.policies.registry import make_policy
from harness.spec.budget import Budget
from harness.spec.policy import parse_policy
from harness.time_source import WallTime

OBSERVATIONS = synthetic_observations(2, resolution=256)
CONFIG = FlowConfig()
NUMBER = 4
"""Bytes of a float32."""


@pytest.fixture(scope="module")
def flow() -> FlowPolicy:
    policy = make_policy(parse_policy("flow?device=cpu"))
    assert isinstance(policy, FlowPolicy)
    return policy


def by_component(policy: FlowPolicy, *, nfe: int = 3, batch_size: int = 1) -> dict[str, dict[str, object]]:
    rows = count(policy, OBSERVATIONS, nfe=nfe, batch_size=batch_size)
    return {str(row["component"]): row for row in rows}


def parameter_bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def step_flops(tokens: int) -> int:
    """A denoise step of flow by hand: four maps and attention a layer, the time and the action maps around them."""
    width, chunk = CONFIG.width, CONFIG.chunk_length
    maps = 3 * width * width + width * width + 2 * width * CONFIG.expert_mlp
    attention = 2 * width * (tokens + chunk)
    time = width * width + width * 6 * width
    return 2 * (CONFIG.layers * chunk * (maps + attention) + chunk * 2 * 7 * width + time)


def test_flops_and_bytes_of_a_denoise_step_are_those_of_the_formula(flow: FlowPolicy) -> None:
    step = by_component(flow)["denoise_step"]
    assert step["calls"] == 3
    assert step["flops"] == step_flops(CONFIG.prefix_tokens)
    assert step["flops_by_format"] == {"fp32": step["flops"]}
    assert step["parameter_bytes"] == parameter_bytes(flow.network.expert)


def test_the_cache_is_what_the_prefix_leaves_and_a_step_reads(flow: FlowPolicy) -> None:
    rows = by_component(flow)
    keys_and_values = 2 * CONFIG.layers * CONFIG.prefix_tokens * CONFIG.width * NUMBER
    mask = CONFIG.prefix_tokens + CONFIG.chunk_length
    assert rows["prefix"]["kv_bytes"] == rows["denoise_step"]["kv_bytes"] == keys_and_values + mask
    assert rows["vision"]["kv_bytes"] == 0


def test_embedding_tables_are_read_by_row(flow: FlowPolicy) -> None:
    words = flow.network.prefix.words.weight
    rows = CONFIG.text_tokens * CONFIG.width * NUMBER
    statistics = 2 * 8 * NUMBER
    whole = words.numel() * NUMBER
    read = by_component(flow)["prefix"]["parameter_bytes"]
    assert read == parameter_bytes(flow.network.prefix) - whole + rows + statistics


def test_vision_counts_every_camera_and_its_weights_once(flow: FlowPolicy) -> None:
    vision = by_component(flow)["vision"]
    assert vision["parameter_bytes"] == pytest.approx(parameter_bytes(flow.network.vision), rel=1e-4)
    side, inputs, flops = CONFIG.image_size, 3, 0
    for stage, outputs in enumerate(CONFIG.channels):
        side //= 2
        flops += side * side * outputs * 9 * (inputs + (2 * outputs if stage else 0))
        inputs = outputs
    flops += side * side * inputs * CONFIG.width
    assert vision["flops"] == 2 * 2 * flops


def test_a_batch_multiplies_the_work_and_not_the_weights(flow: FlowPolicy) -> None:
    one, two = by_component(flow)["denoise_step"], by_component(flow, batch_size=2)["denoise_step"]
    time = 2 * (CONFIG.width**2 + 6 * CONFIG.width**2)
    assert two["flops"] == 2 * int(str(one["flops"]))
    assert two["parameter_bytes"] == one["parameter_bytes"]
    assert time < int(str(one["flops"]))


def test_a_decision_is_the_sum_of_its_parts(flow: FlowPolicy) -> None:
    rows = by_component(flow, nfe=4)
    whole = rows.pop("e2e")
    for name in ("flops", "kv_bytes", "activation_bytes", "operators"):
        parts = sum(int(str(row[name])) * int(str(row["calls"])) for row in rows.values())
        assert int(str(whole[name])) == pytest.approx(parts, abs=20), name


def test_half_precision_halves_the_bytes_and_changes_the_format() -> None:
    half = make_policy(parse_policy("flow?device=cpu&dtype=bfloat16"))
    assert isinstance(half, FlowPolicy)
    step = by_component(half)["denoise_step"]
    assert set(step["flops_by_format"]) == {"bf16"}  # type: ignore[call-overload]
    assert step["parameter_bytes"] == parameter_bytes(half.network.expert)


def test_counting_changes_neither_the_answers_nor_the_policy(flow: FlowPolicy) -> None:
    noise = np.random.default_rng(0).standard_normal((1, *(flow.info.noise_shape or ()))).astype(np.float32)
    span, before = flow.span, flow.act(OBSERVATIONS[:1], noise, nfe=2).actions
    count(flow, OBSERVATIONS, nfe=2, batch_size=1)
    assert flow.span is span
    assert (flow.act(OBSERVATIONS[:1], noise, nfe=2).actions == before).all()


def test_int8_weights_are_read_as_int8() -> None:
    quantization = pytest.importorskip("torchao.quantization")
    module = nn.Sequential(nn.Linear(64, 32, bias=False)).to(torch.bfloat16).eval()
    quantization.quantize_(module, quantization.Int8WeightOnlyConfig())
    counter = OperatorCounter(module.parameters())
    with torch.inference_mode(), counter, counter.span("prefix"):
        module(torch.ones(1, 64, dtype=torch.bfloat16))
    tally = counter.calls[-1]
    assert 64 * 32 <= tally.parameter_bytes < 1.2 * 64 * 32
    assert tally.flops == 2 * 64 * 32


def test_what_is_compiled_is_counted_as_it_was_written() -> None:
    from harness.latency.counts import _uncompiled

    function = torch.compile(lambda x: x @ x)
    counter = OperatorCounter([])
    with torch.inference_mode(), _uncompiled(), counter, counter.span("prefix"):
        function(torch.ones(8, 8))
    assert counter.calls[-1].flops == 2 * 8**3


def test_rows_fit_the_ledger_and_say_how_they_were_counted(flow: FlowPolicy) -> None:
    labels = Labels(run_id="r", node_id="n", hardware="cpu", policy_id="flow")
    rows = count_rows(flow, OBSERVATIONS, WallTime().now(), labels, nfe=2, batch_size=1)
    table = to_table("counts", rows)
    assert set(table["method"].to_pylist()) == {METHOD}
    assert table["component"].to_pylist()[0] == "e2e"
    assert table["kernels"].null_count == table.num_rows


def test_a_policy_without_torch_in_this_process_has_no_counts() -> None:
    assert count(probe_stubs.Sleepy(lambda seconds: None), OBSERVATIONS, nfe=1, batch_size=1) == []


def test_a_probe_counts_beside_timing_and_a_failure_of_counting_costs_no_timings() -> None:
    budget = Budget(min_seconds=0.01, min_samples=2, max_seconds=20, warmup_seconds=0.1, warmup_window=1)
    counted: list[dict[str, object]] = []
    result = run_isolated(
        probe_stubs.uncountable, observations=OBSERVATIONS, nfes=(1,), budget=budget, on_counts=counted.extend
    ).probe
    assert result.rows
    assert counted == []
    assert any("operators at NFE 1, batch 1 could not be counted" in warning for warning in result.warnings)


# Kernels: the profiler's intervals, without a GPU.


def test_kernels_belong_to_the_component_in_which_they_started() -> None:
    spans = [KernelTime("e2e", 0, 100), KernelTime("vision", 10, 40), KernelTime("denoise_step", 50, 90)]
    work = [KernelTime("k", 12, 20), KernelTime("k", 15, 30), KernelTime("copy", 55, 60), KernelTime("k", 92, 95)]
    assert attribute(spans, work) == [
        Activity("e2e", 4, 26e-6),
        Activity("vision", 2, 18e-6),
        Activity("denoise_step", 1, 5e-6),
    ]


@pytest.mark.gpu
def test_a_gpu_is_busy_for_part_of_a_component_and_launches_kernels_in_it() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    policy = make_policy(parse_policy("flow?device=cuda"))
    rows = {row["component"]: row for row in count(policy, OBSERVATIONS, nfe=3, batch_size=1)}
    step = rows["denoise_step"]
    assert 50 < step["kernels"] < 1000
    assert 0 < step["busy_ms"] < 50
    assert rows["e2e"]["kernels"] >= 3 * step["kernels"]


def test_rates_by_format_reach_the_ledger() -> None:
    row = describe_node(calibration=Calibration("cpu", 10.0, 0.2, 1.5, {"fp32": 0.2, "bf16": 0.8}, 0.9))
    stored = to_table("nodes", [row]).to_pylist()[0]
    assert dict(stored["matmul_by_format"]) == {"fp32": 0.2, "bf16": 0.8}
    assert stored["python_us"] == 0.9


def test_counting_an_eager_policy_imports_no_compiler() -> None:
    """That would take a second, in every process that counts; so would building `flow`."""
    code = (
        "import sys; from harness.latency.counts import count; from harness.latency import synthetic_observations\n"
        "from harness.policies.registry import make_policy; from harness.spec.policy import parse_policy\n"
        "policy = make_policy(parse_policy('flow?device=cpu'))\n"
        "rows = count(policy, synthetic_observations(1), nfe=1, batch_size=1)\n"
        "print(rows[0]['operators'] > 200, 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["True", "False"]
