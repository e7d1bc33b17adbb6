"""Specification of the probe in one process."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from probe_stubs import Faulty, Sleepy, Stopwatch, without_nfe

from harness.errors import UsageError
from harness.latency import Budget, Labels, probe, synthetic_observations
from harness.latency.probe import Row
from harness.latency.telemetry import Reading, Telemetry
from harness.ledger.conform import to_table
from harness.policies.base import no_span
from harness.spec.observation import ActionChunks
from harness.time_source import WallTime

TINY = Budget(min_seconds=0.05, min_samples=4, max_seconds=20, warmup_seconds=0.2, warmup_window=1)
OBSERVATIONS = synthetic_observations(3, resolution=8)


def ideal(**info: object) -> tuple[Sleepy, Stopwatch]:
    """A policy whose every millisecond is known, since the clock moves only as it works."""
    clock = Stopwatch()

    def work(seconds: float) -> None:
        clock.elapsed += seconds

    return Sleepy(work, **info), clock


def test_end_to_end_and_every_component_are_timed_exactly() -> None:
    policy, clock = ideal()
    result = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(4,), budget=TINY).configurations[0]
    assert np.allclose(result.samples_ms("e2e"), 23)
    for component, cost in Sleepy.COSTS.items():
        assert np.allclose(result.samples_ms(component), cost)
    assert result.components_to_e2e == pytest.approx(1.0)
    assert (result.warm, result.warnings) == (True, ())


def test_each_decision_has_as_many_denoise_steps_as_function_evaluations_and_shares_one_sample_number() -> None:
    policy, clock = ideal()
    for configuration in probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1, 5), budget=TINY).configurations:
        by_sample: dict[int, Counter[str]] = {}
        for row in configuration.rows:
            by_sample.setdefault(row["sample"], Counter())[row["component"]] += 1
        parts = dict.fromkeys(("preprocess", "vision", "prefix", "postprocess"), 1)
        expected = [Counter(e2e=1), Counter(parts, denoise_step=configuration.nfe)]
        assert [by_sample[sample] for sample in sorted(by_sample)] == expected * len(configuration.samples_ms())


def test_rows_are_rows_of_the_ledger_with_their_labels_and_dates() -> None:
    policy, clock = ideal()
    labels = Labels(run_id="r", node_id="n", hardware="cpu", compile="eager", policy_id="alias")
    rows = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=TINY, labels=labels).rows
    table = to_table("latency", rows)
    assert table.num_rows == len(rows)
    first = table.to_pylist()[0]
    wanted = {"run_id": "r", "node_id": "n", "hardware": "cpu", "compile": "eager", "policy_id": "alias", "nfe": 1}
    assert {key: first[key] for key in wanted} == wanted
    assert first["memory_bytes"] > 0
    assert first["sm_clock_mhz"] is None
    dates = [row["started_at"] for row in rows]
    assert dates == sorted(dates)
    assert dates[0] > datetime(2026, 1, 1, tzinfo=UTC)


def test_it_measures_until_both_time_and_count_are_reached() -> None:
    policy, clock = ideal()
    counted = probe(
        policy, observations=OBSERVATIONS, clock=clock, budget=Budget(min_seconds=0, min_samples=7, warmup_window=1)
    )
    assert len(counted.configurations[0].samples_ms()) == 7
    timed = probe(
        policy, observations=OBSERVATIONS, clock=clock, budget=Budget(min_seconds=2.0, min_samples=2, warmup_window=1)
    )
    assert timed.configurations[0].seconds >= 2.0


def test_the_hard_cap_ends_it_with_a_warning_that_names_the_unmet_criterion() -> None:
    policy, clock = ideal()
    budget = Budget(min_seconds=0.1, min_samples=1000, max_seconds=0.5, warmup_window=1)
    result = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=budget)
    assert any("min_samples 1000" in warning for warning in result.warnings)


def test_a_latency_that_never_settles_is_measured_with_a_warning() -> None:
    policy, clock = ideal()
    costs = iter(range(1, 10_000))
    policy.sleep = lambda seconds: setattr(clock, "elapsed", clock.elapsed + seconds * next(costs))
    result = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=TINY).configurations[0]
    assert not result.warm
    assert any("had not settled" in warning for warning in result.warnings)


def test_work_outside_the_spans_is_noticed() -> None:
    policy, clock = ideal()
    inner = policy.act

    def act(*args, **kwargs):  # type: ignore[no-untyped-def]
        clock.elapsed += 0.05
        return inner(*args, **kwargs)

    policy.act = act  # type: ignore[method-assign]
    result = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=TINY)
    assert any("components add up to" in warning for warning in result.warnings)


def test_noise_alone_is_not_taken_for_work_outside_the_spans() -> None:
    policy, clock = ideal()
    jitter = np.random.default_rng(0)
    policy.sleep = lambda seconds: setattr(clock, "elapsed", clock.elapsed + seconds * jitter.uniform(0.5, 2.0))
    budget = Budget(min_seconds=0, min_samples=12, warmup_seconds=0)
    result = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=budget)
    assert not any("components add up to" in warning for warning in result.warnings)


def test_the_policys_own_span_timer_is_put_back() -> None:
    policy, clock = ideal()
    probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=TINY)
    assert policy.span is no_span


def test_batches_cycle_through_the_observations_with_noise_for_each() -> None:
    policy, clock = ideal()
    result = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), batch_sizes=(1, 4), budget=TINY)
    assert [c.batch_size for c in result.configurations] == [1, 4]
    assert {len(batch) for batch in policy.batches} == {1, 4}
    for batch, noise in zip(policy.batches, policy.noises, strict=True):
        assert noise is not None
        assert noise.shape == (len(batch), 2, 7)
    assert {id(batch[0]) for batch in policy.batches if len(batch) == 1} == {id(o) for o in OBSERVATIONS}


@pytest.mark.parametrize("nfe", [0, -3])
def test_an_nfe_below_one_is_refused_before_anything_runs(nfe: int) -> None:
    policy, clock = ideal()
    with pytest.raises(UsageError, match=f"NFE {nfe}"):
        probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1, nfe), budget=TINY)
    assert not policy.batches


def test_an_nfe_that_the_policy_does_not_offer_is_refused_with_those_it_does() -> None:
    policy, clock = ideal(nfe_options=(1, 4))
    with pytest.raises(UsageError, match="NFE 2; it offers 1, 4"):
        probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(2,), budget=TINY)


def test_without_an_nfe_asked_for_the_default_is_probed_and_repeats_are_probed_once() -> None:
    policy, clock = ideal()
    assert [c.nfe for c in probe(policy, observations=OBSERVATIONS, clock=clock, budget=TINY).configurations] == [3]
    twice = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(2, 2), budget=TINY)
    assert [c.nfe for c in twice.configurations] == [2]


def test_a_policy_without_nfe_is_probed_once_whatever_the_sweep() -> None:
    result = probe(without_nfe(), observations=OBSERVATIONS, clock=WallTime(), nfes=(1, 2, 5), budget=TINY)
    assert [c.nfe for c in result.configurations] == [None]
    assert to_table("latency", result.rows).column("nfe").null_count == len(result.rows)


@pytest.mark.parametrize("batch_size", [0, 65])
def test_a_batch_that_the_policy_does_not_take_is_refused(batch_size: int) -> None:
    policy, clock = ideal()
    with pytest.raises(UsageError, match=f"Batch size {batch_size}"):
        probe(policy, observations=OBSERVATIONS, clock=clock, batch_sizes=(batch_size,), budget=TINY)


def test_ctrl_c_keeps_finished_configurations_and_the_samples_of_the_one_in_hand() -> None:
    policy, clock = ideal()
    inner, calls = policy.act, 0

    def act(observations, noise, *, nfe=None):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += nfe == 5
        if calls == 12:
            raise KeyboardInterrupt
        return inner(observations, noise, nfe=nfe)

    policy.act = act  # type: ignore[method-assign]
    received: list[Row] = []
    budget = Budget(min_seconds=0.05, min_samples=20, warmup_window=1)
    result = probe(
        policy, observations=OBSERVATIONS, clock=clock, nfes=(1, 5, 10), budget=budget, on_rows=received.extend
    )
    assert result.interrupted
    assert [c.nfe for c in result.configurations] == [1, 5]
    assert len(result.configurations[0].samples_ms()) == 20
    # 12 calls: the first, three of warm-up, then e2e and components in turn until the one that was interrupted.
    assert len(result.configurations[1].samples_ms()) == 4
    assert len(result.configurations[1].samples_ms("prefix")) == 3
    assert received == result.rows
    assert policy.span is no_span


def test_a_configuration_that_raises_keeps_its_samples_and_the_others_are_measured() -> None:
    result = probe(Faulty("raise"), observations=OBSERVATIONS, clock=WallTime(), nfes=(1, 2, 3), budget=TINY)
    assert [c.failure is None for c in result.configurations] == [True, False, True]
    assert any("MemoryError: out of memory" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.full((1, 2, 7), np.nan), "NaN"),
        (np.zeros((1, 3, 7)), r"shape \(1, 3, 7\); return ActionChunks.* of shape \(1, 2, 7\)"),
    ],
)
def test_an_answer_that_is_no_chunk_is_a_failure_not_a_latency(answer: np.ndarray, said: str) -> None:
    policy, clock = ideal()
    policy.act = lambda *args, **kwargs: ActionChunks(answer)  # type: ignore[method-assign]
    result = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=TINY)
    assert not result.rows
    failure = result.configurations[0].failure
    assert failure is not None
    assert re.search(said, failure.message)


def test_the_reading_nearest_in_time_stands_beside_each_sample() -> None:
    policy, clock = ideal()

    class Source:
        def read(self) -> Reading:
            return Reading(sm_clock_mhz=1500.0, power_w=42.0, throttled=False)

    with Telemetry(Source(), interval_s=60, seconds=clock.seconds) as telemetry:
        rows = probe(policy, observations=OBSERVATIONS, clock=clock, nfes=(1,), budget=TINY, telemetry=telemetry).rows
    assert {(r["sm_clock_mhz"], r["power_w"], r["throttled"], r["temperature_c"]) for r in rows} == {
        (1500.0, 42.0, False, None)
    }


def test_the_components_of_flow_add_up_to_its_end_to_end_latency() -> None:
    torch = pytest.importorskip("torch")
    from harness.policies.flow import make
    from harness.spec.policy import parse_policy

    threads = torch.get_num_threads()
    # More than one thread waits on its sisters, which on a shared machine is noise, not the policy.
    torch.set_num_threads(1)
    try:
        budget = Budget(min_seconds=0.5, min_samples=15, max_seconds=60, warmup_seconds=5)
        result = probe(
            make(parse_policy("flow?device=cpu")),
            observations=synthetic_observations(2),
            clock=WallTime(),
            nfes=(1, 10),
            budget=budget,
        )
    finally:
        torch.set_num_threads(threads)
    for configuration in result.configurations:
        assert configuration.components_to_e2e == pytest.approx(1.0, abs=0.15)
    # The quickest of each: a neighbour's load on a shared machine can only add, and may add to one of the two alone.
    one, ten = (np.min(c.samples_ms()) for c in result.configurations)
    assert ten > one


@pytest.mark.gpu
def test_on_cuda_the_device_is_waited_for_and_components_add_up() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    from harness.policies.flow import make
    from harness.spec.policy import parse_policy

    budget = Budget(min_seconds=2, min_samples=50, max_seconds=60)
    result = probe(
        make(parse_policy("flow?device=cuda")),
        observations=synthetic_observations(4),
        clock=WallTime(),
        nfes=(1, 10),
        budget=budget,
    )
    for configuration in result.configurations:
        assert configuration.warnings == ()
        assert configuration.components_to_e2e == pytest.approx(1.0, abs=0.03)


def test_probing_imports_neither_ray_nor_a_simulator() -> None:
    code = """
import sys
from harness.latency import Budget, describe_node, probe, run_isolated, synthetic_observations
from harness.policies.registry import make_policy
from harness.time_source import WallTime
from harness.spec.policy import parse_policy
budget = Budget(min_seconds=0, min_samples=1, warmup_seconds=0)
probe(make_policy(parse_policy("flow?device=cpu")), observations=synthetic_observations(1), clock=WallTime(),
      nfes=(1,), budget=budget)
describe_node()
print([name for name in ("ray", "mujoco", "libero", "robosuite", "lerobot") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
