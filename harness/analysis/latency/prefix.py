"""The prefix and the denoise step as the NFE sweep reveals them, beside what the probe measured inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.latency.launches import LAUNCH
from harness.analysis.latency.percentiles import CONFIGURATION, FIXED_COMPONENTS, sum_components
from harness.analysis.laws import t_isf
from harness.analysis.success.rates import CONFIDENCE

RESAMPLES = 2000

COLUMNS = [
    *CONFIGURATION,
    *(
        "n",
        "launches",
        "nfe_values",
        "step",
        "step_low",
        "step_high",
        "prefix",
        "prefix_low",
        "prefix_high",
        "residual",
    ),
    *("measured_step", "measured_prefix", "measured_outside"),
]


def prefix_fit(latency: pd.DataFrame, rng: np.random.Generator | None = None) -> pd.DataFrame:
    """Fit the line e2e = prefix + step · NFE to the medians of each configuration.

    The intercept is all time that does not depend on the NFE, so its measured counterpart is `measured_outside`
    (preprocess + vision + prefix + postprocess), of which `measured_prefix` (vision + prefix) is a part. Where the two
    sides differ, the line is no model of the device, and `residual` shows by how much.

    Args:
        latency: `Ledger.latency`.
        rng: Source of the bootstrap's draws; a fixed seed by default, so that a report is reproducible.

    Returns:
        One row per configuration measured at two or more NFE values, columns `COLUMNS`, times in ms. `*_low` and
        `*_high` are 95 % bounds: t over the lines of the `launches` that measured every NFE, or, with one such launch,
        a bootstrap within one process; `residual` is the largest distance of a median from the line; measured
        values are medians over the samples of all NFE values, NaN where the probe recorded no components.
    """
    rng = rng or np.random.default_rng(0)
    rows = [
        dict(zip(CONFIGURATION, key, strict=True)) | fit
        for key, group in latency.groupby(CONFIGURATION, dropna=False, sort=True)
        if (fit := _fit(group, rng)) is not None
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def nfe_sweep(latency: pd.DataFrame) -> pd.DataFrame:
    """Median decision at every NFE, and what fewer evaluations save.

    Args:
        latency: `Ledger.latency`.

    Returns:
        One row per configuration and NFE (policies without one: NA) with `n`, `median` (ms) and `speedup`: the median
        at the configuration's largest NFE over this one.
    """
    e2e = latency[latency["component"] == "e2e"]
    grouped = e2e.groupby([*CONFIGURATION, "nfe"], dropna=False, sort=True)["latency_ms"]
    table = grouped.agg(n="size", median="median").reset_index()
    slowest = table.sort_values("nfe").groupby(CONFIGURATION, dropna=False)["median"].transform("last")
    return table.assign(speedup=slowest / table["median"], nfe=table["nfe"].astype("Int32"))


def _fit(group: pd.DataFrame, rng: np.random.Generator) -> dict[str, object] | None:
    e2e = group[(group["component"] == "e2e") & group["nfe"].notna()]
    by_nfe = {
        nfe: np.sort(e2e.loc[e2e["nfe"] == nfe, "latency_ms"].to_numpy(dtype=float))
        for nfe in sorted(int(value) for value in e2e["nfe"].unique())
    }
    if len(by_nfe) < 2:
        return None
    nfe = np.array(list(by_nfe), dtype=float)
    medians = np.array([np.median(samples) for samples in by_nfe.values()])
    step, prefix = _line(nfe, medians[None, :])[0]
    lines = _launch_lines(e2e, nfe)
    if len(lines) > 1:
        half = t_isf((1 - CONFIDENCE) / 2, len(lines) - 1) * lines.std(axis=0, ddof=1) / np.sqrt(len(lines))
        (step_low, prefix_low), (step_high, prefix_high) = lines.mean(axis=0) - half, lines.mean(axis=0) + half
    else:
        draws = _line(nfe, np.stack([_median_draws(samples, rng) for samples in by_nfe.values()], axis=1))
        tail = 100 * (1 - CONFIDENCE) / 2
        (step_low, prefix_low), (step_high, prefix_high) = np.percentile(draws, [tail, 100 - tail], axis=0)
    return {
        "n": sum(len(samples) for samples in by_nfe.values()),
        "launches": max(1, len(lines)),
        "nfe_values": tuple(by_nfe),
        "step": step,
        "step_low": step_low,
        "step_high": step_high,
        "prefix": prefix,
        "prefix_low": prefix_low,
        "prefix_high": prefix_high,
        "residual": float(np.abs(medians - (prefix + step * nfe)).max()),
        **_measured(group),
    }


def _launch_lines(e2e: pd.DataFrame, nfe: NDArray[np.float64]) -> NDArray[np.float64]:
    """(slope, intercept) of each launch that measured every NFE, shape (launches, 2)."""
    medians = e2e.groupby([*LAUNCH, "nfe"], dropna=False)["latency_ms"].median().unstack("nfe").dropna()
    return _line(nfe, medians[list(nfe.astype(int))].to_numpy(dtype=float))


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares (slope, intercept) of each row of `y`, shape (rows, 2)."""
    centred = x - x.mean()
    slope = (y * centred).sum(axis=1) / (centred**2).sum()
    return np.stack([slope, y.mean(axis=1) - slope * x.mean()], axis=1)


def _median_draws(ordered: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Medians of bootstrap resamples, without resampling: the rank of a resample's median is Beta-distributed.

    Source: B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans (1982), §10.3.
    """
    n = len(ordered)
    ranks = rng.beta((n + 1) / 2, (n + 1) / 2, RESAMPLES) * n
    draws: NDArray[np.float64] = ordered[np.minimum(ranks.astype(int), n - 1)]
    return draws


def _measured(group: pd.DataFrame) -> dict[str, float]:
    def median(components: Sequence[str]) -> float:
        return float(sum_components(group, components, "")["latency_ms"].median())

    return {
        "measured_step": float(group.loc[group["component"] == "denoise_step", "latency_ms"].median()),
        "measured_prefix": median(["vision", "prefix"]),
        "measured_outside": median(FIXED_COMPONENTS),
    }
