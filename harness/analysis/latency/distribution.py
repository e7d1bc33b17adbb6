"""How latencies are distributed and how they went over time, thinned to what a chart can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.intervals import Floats
from harness.analysis.latency.launches import LAUNCH
from harness.analysis.latency.percentiles import CONFIGURATION

SHARES = np.linspace(0.0, 1.0, 101)
"""Shares of the samples at which a distribution is told."""

MAX_SAMPLES = 400
"""Samples of one launch and NFE over time: of more, every so manieth is kept."""

MAX_LAUNCHES = 8
"""Launches that are told apart."""

TELEMETRY = ("sm_clock_mhz", "temperature_c", "power_w")
"""What is told beside the samples over time."""


@dataclass(frozen=True)
class Distribution:
    """Empirical distribution of one component in one configuration and NFE."""

    configuration: dict[str, Any]
    nfe: int | None
    component: str
    launch: int | None
    """Number of the launch, from 1; None for all together."""
    n: int
    quantiles: Floats
    """ms, at `SHARES`."""


@dataclass(frozen=True)
class LaunchSamples:
    """End-to-end latencies of one launch over time."""

    configuration: dict[str, Any]
    nfe: int | None
    launch: int
    """From 1, in the order of their beginning."""
    seconds: Floats
    """Since the configuration's first sample; the sample's number where no time is known."""
    timed: bool
    """Whether `seconds` are seconds."""
    latency_ms: Floats
    telemetry: dict[str, Floats]
    """Column of `TELEMETRY` → values, where any is known."""


def distributions(latency: pd.DataFrame) -> list[Distribution]:
    """Distributions of every configuration, NFE and component, and launch by launch of the whole decision.

    Args:
        latency: `Ledger.latency`.
    """
    return [
        found
        for key, group in latency.groupby([*CONFIGURATION, "nfe", "component"], dropna=False, sort=True)
        for found in _distributions(key, group)
    ]


def _distributions(key: tuple[Any, ...], group: pd.DataFrame) -> Iterator[Distribution]:
    configuration = dict(zip(CONFIGURATION, key, strict=False))
    nfe, component = None if pd.isna(key[-2]) else int(key[-2]), str(key[-1])
    parts: list[tuple[int | None, pd.DataFrame]] = [(None, group)]
    launches = [part for _, part in group.groupby(LAUNCH, dropna=False, sort=True)]
    if component == "e2e" and len(launches) > 1:
        parts += list(enumerate(launches[:MAX_LAUNCHES], 1))
    for launch, part in parts:
        values = part["latency_ms"].dropna().to_numpy(dtype=float)
        if len(values):
            quantiles = np.quantile(values, SHARES)
            yield Distribution(configuration, nfe, component, launch, len(values), quantiles)


def samples_over_time(latency: pd.DataFrame) -> list[LaunchSamples]:
    """End-to-end samples of every configuration, NFE and launch in their order.

    Args:
        latency: `Ledger.latency`.
    """
    found = []
    whole = latency[latency["component"] == "e2e"]
    for key, group in whole.groupby(CONFIGURATION, dropna=False, sort=True):
        configuration, begin = dict(zip(CONFIGURATION, key, strict=True)), group["started_at"].min()
        steps: Any  # NA where the policy does not denoise
        for steps, own in group.groupby("nfe", dropna=False, sort=True):
            launches = [part for _, part in own.groupby(LAUNCH, dropna=False, sort=True)]
            for number, part in enumerate(launches[:MAX_LAUNCHES], 1):
                found.append(_samples(configuration, None if pd.isna(steps) else int(steps), number, part, begin))
    return found


def _samples(
    configuration: dict[str, Any], nfe: int | None, launch: int, part: pd.DataFrame, begin: Any
) -> LaunchSamples:
    kept = part.iloc[:: -(-len(part) // MAX_SAMPLES)]
    timed = bool(kept["started_at"].notna().all())
    seconds = (kept["started_at"] - begin).dt.total_seconds() if timed else kept["sample"].astype("Float64")
    telemetry: dict[str, Floats] = {
        name: kept[name].to_numpy(dtype=float, na_value=np.nan) for name in TELEMETRY if kept[name].notna().any()
    }
    place: Floats = np.asarray(seconds, dtype=np.float64)
    return LaunchSamples(configuration, nfe, launch, place, timed, kept["latency_ms"].to_numpy(dtype=float), telemetry)
