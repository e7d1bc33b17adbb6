"""Energy of a decision: one definition for every table, comparison and rule."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from harness.analysis.intervals import Interval
from harness.analysis.latency.launches import LAUNCH
from harness.analysis.laws import t_isf

EnergySource = Literal["counter", "power × time"]
"""Where an energy comes from: what the device counted, or its power, read now and then, times the duration. A counter
covers another part of the machine than a sensor does, so that the two may differ where nothing changed."""

FROM_POWER = "energy_j=power_w"
"""What `telemetry_source` says of an energy that the probe worked out itself, for want of a counter."""


def energies_of(samples: pd.DataFrame) -> tuple[pd.Series, EnergySource | None]:
    """Energy of each pass of a component that has one, joules, and where it comes from.

    What a counter measured wins; only without any is it power times time, sample by sample.

    Args:
        samples: Rows of `latency` of one component, with `energy_j`, `power_w` and `latency_ms`; `telemetry_source`
            where it was recorded.

    Returns:
        The energies, indexed as `samples`, empty where neither energy nor power was read; and their source.
    """
    measured = samples["energy_j"].dropna()
    if "telemetry_source" in samples:
        told = samples.loc[measured.index, "telemetry_source"].fillna("").astype(str)
        counted = measured[~told.str.split(",").map(lambda parts: FROM_POWER in parts).astype(bool)]
        if len(counted) or not len(measured):
            measured = counted
        else:
            return measured, "power × time"
    if len(measured):
        return measured, "counter"
    derived = (samples["power_w"] * samples["latency_ms"] / 1000).dropna()
    return derived, "power × time" if len(derived) else None


def energy_of(samples: pd.DataFrame) -> float | None:
    """Mean energy of one pass of a component, joules; see `energies_of`.

    Returns:
        The mean; None where neither energy nor power was read.
    """
    energies, _ = energies_of(samples)
    return float(energies.mean()) if len(energies) else None


def energy_bounds(samples: pd.DataFrame, confidence: float = 0.95) -> Interval | None:
    """Interval of `energy_of`: Student's t over the means of the launches, whose samples are not independent.

    Returns:
        Joules; None with fewer than two launches that were measured.
    """
    told = [energy_of(group) for _, group in samples.groupby(LAUNCH, dropna=False)]
    means = np.array([energy for energy in told if energy is not None])
    if len(means) < 2:
        return None
    middle, error = float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))
    half = float(t_isf((1 - confidence) / 2, len(means) - 1)) * error
    return Interval(middle - half, middle + half)
