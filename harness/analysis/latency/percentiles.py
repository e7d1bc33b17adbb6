"""Latency from raw samples: percentiles over the union of samples, never averages of percentiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analysis.intervals import Floats, quantile_interval
from harness.analysis.latency.launches import by_launch, level_limits
from harness.analysis.success.rates import CONFIDENCE

CONFIGURATION = ["hardware", "policy_id", "dtype", "compile", "batch_size"]
"""What a latency curve over NFE belongs to."""

DENOISE_TOTAL = "denoise"
"""Derived component: all denoise steps of one decision together."""

OUTSIDE_LOOP = "outside_loop"
"""Derived component: all of one decision's components that do not depend on the NFE (preprocess, vision, prefix,
postprocess) together: what the intercept of the line e2e = a + b·NFE estimates."""

FIXED_COMPONENTS = ("preprocess", "vision", "prefix", "postprocess")
"""Components that run once per decision, whatever the NFE."""

_ORDER = (
    "e2e",
    "preprocess",
    "vision",
    "prefix",
    DENOISE_TOTAL,
    "denoise_step",
    "postprocess",
    OUTSIDE_LOOP,
    "transport",
)


def samples_needed(q: float, confidence: float = CONFIDENCE) -> int:
    """Least number of independent samples that bounds a quantile on both sides (6 for the median, 368 for p99)."""
    tail = (1 - confidence) / 2
    return int(np.ceil(np.log(tail) / np.log(max(q, 1 - q))))


def latency_by_component(latency: pd.DataFrame) -> pd.DataFrame:
    """Percentiles of every configuration, NFE and component, over all of its samples.

    Args:
        latency: `Ledger.latency`: raw samples.

    Returns:
        One row per (hardware, policy_id, dtype, compile, batch_size, nfe, component), components in the order of a
        decision and with the derived ones (`DENOISE_TOTAL`, `OUTSIDE_LOOP`), with `n`, `launches`, `min`, `median`,
        `p90`, `p99`, the 95 % bounds `median_low`, `median_high`, `p99_low`, `p99_high` (of a launch's quantile where
        there are several launches, else within the one process; NaN where there are too few samples), all in ms;
        `throttled` (throttled samples; NaN when nobody looked), `clock_mhz` (median), `temperature_c` (highest),
        `power_w` (median), `memory_bytes` (highest).
    """
    denoise = sum_components(latency, ["denoise_step"], DENOISE_TOTAL)
    fixed = sum_components(latency, FIXED_COMPONENTS, OUTSIDE_LOOP)
    samples = pd.concat([frame for frame in (latency, denoise, fixed) if len(frame)] or [latency], ignore_index=True)
    keys = [*CONFIGURATION, "nfe", "component"]
    rows = [
        dict(zip(keys, key, strict=True)) | _describe(group)
        for key, group in samples.groupby(keys, dropna=False, sort=True)
    ]
    table = pd.DataFrame(rows, columns=[*keys, *_DESCRIPTION])
    rank = table["component"].map({name: place for place, name in enumerate(_ORDER)})
    table = table.assign(_rank=rank, nfe=table["nfe"].astype("Int32"))
    ordered = table.sort_values([*CONFIGURATION, "nfe", "_rank"], kind="stable", ignore_index=True)
    return ordered.drop(columns="_rank")


def decision_latency(decisions: pd.DataFrame) -> pd.DataFrame:
    """How decisions were served in closed loop.

    Returns:
        One row per (policy_id, nfe, hardware) with `n`, `queue_median`, `queue_p99`, `infer_median`, `infer_p99` (ms),
        `batch_mean` (mean over decisions), `batch_max`, `transport_median` and `transport_p99` (ms; NaN for policies in
        the episode's process).
    """
    rows = [
        {
            "policy_id": policy,
            "nfe": nfe,
            "hardware": hardware,
            "n": len(group),
            "queue_median": group["queue_ms"].median(),
            "queue_p99": group["queue_ms"].quantile(0.99),
            "infer_median": group["infer_ms"].median(),
            "infer_p99": group["infer_ms"].quantile(0.99),
            "batch_mean": group["batch_size"].astype("Float64").mean(),
            "batch_max": group["batch_size"].max(),
            "transport_median": group["transport_ms"].dropna().median(),
            "transport_p99": group["transport_ms"].dropna().quantile(0.99),
        }
        for (policy, nfe, hardware), group in decisions.groupby(["policy_id", "nfe", "hardware"], dropna=False)
    ]
    columns = ["policy_id", "nfe", "hardware", "n", "queue_median", "queue_p99", "infer_median", "infer_p99"]
    return pd.DataFrame(rows, columns=[*columns, "batch_mean", "batch_max", "transport_median", "transport_p99"])


_DESCRIPTION = [
    *("n", "launches", "min", "median", "p90", "p99", "median_low", "median_high", "p99_low", "p99_high"),
    *("throttled", "clock_mhz", "temperature_c", "power_w", "memory_bytes"),
]


def _describe(group: pd.DataFrame) -> dict[str, float]:
    samples = group["latency_ms"].to_numpy(dtype=float)
    median, p90, p99 = np.quantile(samples, [0.5, 0.9, 0.99])
    launches = by_launch(group)
    median_low, median_high = _bounds(launches, 0.5)
    p99_low, p99_high = _bounds(launches, 0.99)
    return {
        "n": len(samples),
        "launches": len(launches),
        "min": samples.min(),
        "median": median,
        "p90": p90,
        "p99": p99,
        "median_low": median_low,
        "median_high": median_high,
        "p99_low": p99_low,
        "p99_high": p99_high,
        "throttled": np.nan if group["throttled"].isna().all() else int(group["throttled"].fillna(False).sum()),
        "clock_mhz": group["sm_clock_mhz"].dropna().median(),
        "temperature_c": group["temperature_c"].max(),
        "power_w": group["power_w"].dropna().median(),
        "memory_bytes": group["memory_bytes"].max(),
    }


def _bounds(launches: Sequence[Floats], q: float) -> tuple[float, float]:
    """Both bounds of a quantile, or neither: half an interval is read as a whole one."""
    tail = (1 - CONFIDENCE) / 2
    several = len(launches) > 1
    interval = level_limits(launches, q, tail, tail) if several else quantile_interval(launches[0], q, CONFIDENCE)
    return (interval.low, interval.high) if np.isfinite(interval).all() else (np.nan, np.nan)


def sum_components(latency: pd.DataFrame, components: Sequence[str], name: str) -> pd.DataFrame:
    """Add up components decision by decision.

    Args:
        latency: `Ledger.latency`.
        components: What to add up; decisions that lack all of them are left out.
        name: Component of the result.

    Returns:
        One latency row per decision: `latency_ms` is the sum, `component` is `name`.
    """
    keys = [*CONFIGURATION, "nfe", "run_id", "node_id", "sample"]
    parts = latency[latency["component"].isin(list(components))]
    summed = parts.groupby(keys, dropna=False, as_index=False).agg(
        latency_ms=("latency_ms", "sum"),
        throttled=("throttled", "max"),
        sm_clock_mhz=("sm_clock_mhz", "median"),
        temperature_c=("temperature_c", "max"),
        power_w=("power_w", "median"),
        launch=("launch", "first"),
    )
    return summed.assign(component=name)
