"""Latency: percentiles of the union, intervals that cover, a prefix that comes out of the sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.analysis import decision_latency, latency_by_component, prefix_fit
from harness.analysis.latency.percentiles import samples_needed
from harness.ledger import Ledger

LedgerOf = Callable[..., Ledger]


def samples(values: Any, component: str = "e2e", **changes: Any) -> list[dict[str, Any]]:
    base = {"run_id": "r", "node_id": "n", "hardware": "cpu", "policy_id": "flow", "nfe": 1, "dtype": "float32"}
    more = {"compile": "eager", "batch_size": 1, "component": component, "throttled": False}
    return [base | more | {"sample": i, "latency_ms": float(value)} | changes for i, value in enumerate(values)]


def test_percentiles_are_over_the_union_of_runs_not_averages_of_percentiles(ledger_of: LedgerOf) -> None:
    slow, fast = np.linspace(100, 200, 30), np.linspace(1, 2, 70)
    rows = [*samples(slow, run_id="a"), *samples(fast, run_id="b")]
    row = latency_by_component(ledger_of(latency=rows).latency).iloc[0]
    union = np.concatenate([slow, fast])
    assert row["n"] == 100
    assert [row["median"], row["p90"], row["p99"], row["min"]] == pytest.approx(
        [np.median(union), np.quantile(union, 0.9), np.quantile(union, 0.99), 1]
    )


def test_configurations_are_never_mixed(ledger_of: LedgerOf) -> None:
    rows = [
        *samples([1], hardware="a"),
        *samples([2], nfe=2),
        *samples([3], dtype="bfloat16"),
        *samples([4], compile="default"),
        *samples([5], batch_size=2),
        *samples([6], policy_id="noop", nfe=None, dtype=None),
    ]
    table = latency_by_component(ledger_of(latency=rows).latency)
    assert sorted(table["median"]) == [1, 2, 3, 4, 5, 6]


def test_denoise_steps_are_added_up_decision_by_decision(ledger_of: LedgerOf) -> None:
    rows = [
        *samples([1, 1, 1], "denoise_step", sample=0),
        *samples([2, 2, 5], "denoise_step", sample=1),
        *samples([10, 20], "prefix"),
        *samples([1, 2], "vision"),
    ]
    table = latency_by_component(ledger_of(latency=rows).latency).set_index("component")
    assert table.loc["denoise_step", "n"] == 6
    assert list(table.loc["denoise", ["n", "min", "median"]]) == [2, 3, 6]
    assert list(table.loc["outside_loop", ["n", "min", "median"]]) == [2, 11, 16.5]


def test_throttled_samples_are_counted_and_unknown_is_not_zero(ledger_of: LedgerOf) -> None:
    rows = [*samples([1, 2], throttled=True), *samples([3], throttled=None), *samples([4])]
    rows += samples([5], nfe=2, throttled=None)
    table = latency_by_component(ledger_of(latency=rows).latency)
    assert table["throttled"].tolist()[0] == 2
    assert np.isnan(table["throttled"].tolist()[1])


def test_no_samples_give_empty_tables(ledger_of: LedgerOf) -> None:
    assert latency_by_component(ledger_of().latency).empty
    assert prefix_fit(ledger_of().latency).empty
    assert decision_latency(ledger_of().decisions).empty


@pytest.mark.parametrize(("q", "column", "needed"), [(0.5, "median", 6), (0.99, "p99", 368)])
def test_intervals_exist_from_the_stated_number_of_samples_on(
    ledger_of: LedgerOf, q: float, column: str, needed: int
) -> None:
    assert samples_needed(q) == needed
    rows = [*samples(range(needed - 1), nfe=1), *samples(range(needed), nfe=2)]
    few, enough = latency_by_component(ledger_of(latency=rows).latency)[[f"{column}_low", f"{column}_high"]].to_numpy()
    assert np.isnan(few).all()
    assert np.isfinite(enough).all()


def test_intervals_of_several_launches_are_about_launches(ledger_of: LedgerOf) -> None:
    """Levels 2 % apart, each known to a thousandth by its own samples."""
    rng = np.random.default_rng(1)

    def launched(level: float, launch: int) -> list[dict[str, Any]]:
        return samples(level * np.exp(0.01 * rng.standard_normal(400)), launch=launch)

    rows = [row for launch, level in enumerate((98, 99, 100, 101, 102)) for row in launched(level, launch)]
    one, several = (latency_by_component(ledger_of(latency=these).latency).iloc[0] for these in (rows[:400], rows))
    assert (one["launches"], several["launches"]) == (1, 5)
    assert one["median_high"] - one["median_low"] < 0.5
    assert several["median_low"] < 99 < 101 < several["median_high"]
    assert several["median_low"] < several["median"] < several["median_high"]


def test_the_line_over_nfe_is_as_sure_as_its_launches(ledger_of: LedgerOf) -> None:
    rows = [
        row
        for launch, (prefix, step) in enumerate(((62, 25), (64, 26), (66, 27)))
        for nfe in (1, 2, 5)
        for row in samples(np.full(20, prefix + step * nfe), nfe=nfe, launch=launch)
    ]
    fit = prefix_fit(ledger_of(latency=rows).latency).iloc[0]
    assert (fit["launches"], fit["step"]) == (3, 26)
    # t with 2 degrees of freedom, a standard deviation of 1 over 3 launches.
    assert fit["step_high"] - fit["step"] == pytest.approx(4.303 / 3**0.5, abs=0.001)


def sweep(prefix: float, step: float, *, noise: float = 0.2, n: int = 60) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    rows = []
    for nfe in (1, 2, 5, 10):
        jitter = rng.exponential(noise, size=n)
        rows += samples(prefix + step * nfe + jitter, nfe=nfe)
        rows += samples(np.full(n, prefix - 3), "prefix", nfe=nfe) + samples(np.full(n, 2.0), "vision", nfe=nfe)
        rows += samples(np.full(n, 0.5), "preprocess", nfe=nfe) + samples(np.full(n, 0.5), "postprocess", nfe=nfe)
        rows += [row | {"sample": i // nfe} for i, row in enumerate(samples([step] * n * nfe, "denoise_step", nfe=nfe))]
    return rows


def test_the_sweep_reveals_step_and_prefix_within_their_intervals(ledger_of: LedgerOf) -> None:
    fit = prefix_fit(ledger_of(latency=sweep(64, 26)).latency).iloc[0]
    offset = 0.2 * np.log(2)
    assert fit["step_low"] <= 26 <= fit["step_high"]
    assert fit["prefix_low"] <= 64 + offset <= fit["prefix_high"]
    assert fit["step_high"] - fit["step_low"] < 0.05
    assert fit["nfe_values"] == (1, 2, 5, 10)
    assert fit["residual"] < 0.2


def test_the_measured_side_stands_beside_the_derived_one(ledger_of: LedgerOf) -> None:
    fit = prefix_fit(ledger_of(latency=sweep(64, 26)).latency).iloc[0]
    assert (fit["measured_step"], fit["measured_prefix"], fit["measured_outside"]) == (26, 63, 64)


def test_a_sweep_that_is_no_line_shows_its_residual(ledger_of: LedgerOf) -> None:
    rows = [row for nfe, ms in ((1, 90), (2, 110), (5, 185), (10, 500)) for row in samples([ms] * 20, nfe=nfe)]
    fit = prefix_fit(ledger_of(latency=rows).latency).iloc[0]
    assert fit["residual"] > 20
    assert np.isnan(fit["measured_outside"])


def test_one_nfe_is_no_sweep(ledger_of: LedgerOf) -> None:
    rows = [*samples([1, 2, 3]), *samples([1, 2], nfe=None, policy_id="scripted")]
    assert prefix_fit(ledger_of(latency=rows).latency).empty


def test_the_fit_is_reproducible(ledger_of: LedgerOf) -> None:
    latency = ledger_of(latency=sweep(10, 1)).latency
    pd.testing.assert_frame_equal(prefix_fit(latency), prefix_fit(latency))


def test_decisions_are_summed_up_by_policy_and_hardware(ledger_of: LedgerOf) -> None:
    episode = {"run_id": "r", "episode_key": "k", "policy_id": "flow", "nfe": 1}
    rows = [
        {**episode, "decision": i, "hardware": "cpu", "queue_ms": q, "infer_ms": 10.0, "batch_size": i + 1}
        for i, q in enumerate((1.0, 2.0, 30.0))
    ]
    ended = {**episode, "outcome": "success", "success": True, "decisions": 3}
    row = decision_latency(ledger_of(decisions=rows, episodes=[ended]).decisions).iloc[0]
    assert (row["n"], row["queue_median"], row["infer_median"]) == (3, 2.0, 10.0)
    assert (row["batch_mean"], row["batch_max"]) == (2.0, 3)
