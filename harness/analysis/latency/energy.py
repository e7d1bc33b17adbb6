"""Energy of a decision: one definition for every table, comparison and rule."""

from __future__ import annotations

import pandas as pd


def energy_of(samples: pd.DataFrame) -> float | None:
    """Mean energy of one pass of a component, joules.

    What a counter measured wins; only without any is it power times time, sample by sample.

    Args:
        samples: Rows of `latency` of one component, with `energy_j`, `power_w` and `latency_ms`.

    Returns:
        The mean; None where neither energy nor power was read.
    """
    measured = samples["energy_j"].dropna()
    if len(measured):
        return float(measured.mean())
    derived = (samples["power_w"] * samples["latency_ms"] / 1000).dropna()
    return float(derived.mean()) if len(derived) else None
