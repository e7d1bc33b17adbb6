"""When a measurement is warm and when it is enough: pure functions of durations and counts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles

from harness.spec.budget import Budget


def is_warm(durations: Sequence[float], window: int, tolerance: float) -> bool:
    """Tell whether the medians of the last three windows agree: within `tolerance`, or within their own scatter.

    The medians are of whole windows counted from the start, so that a decision is made once per window. On a busy
    machine medians of so few calls never come within `tolerance`; there, as far apart as the notches of box plots of
    three such windows reach (McGill, Tukey and Larsen 1978) is agreement. A latency that still falls differs more
    between windows than within one.
    """
    if len(durations) < 3 * window or len(durations) % window:
        return False
    starts = range(len(durations) - 3 * window, len(durations), window)
    windows = [sorted(durations[start : start + window]) for start in starts]
    medians: list[float] = [median(values) for values in windows]
    spreads = [quantiles(values, n=4, method="inclusive") if window > 1 else [0.0, 0.0, 0.0] for values in windows]
    notch: float = 1.57 * median(third - first for first, _, third in spreads) / window**0.5
    return max(medians) - min(medians) <= max(tolerance * min(medians), 2 * notch)


def is_enough(budget: Budget, seconds: float, samples: int) -> bool:
    """Tell whether measuring may end: both minima reached, or the hard cap."""
    return seconds >= budget.max_seconds or (seconds >= budget.min_seconds and samples >= budget.min_samples)


def unmet(budget: Budget, seconds: float, samples: int) -> str | None:
    """Name the criterion that a finished measurement does not meet; None when it meets both."""
    missing = []
    if samples < budget.min_samples:
        missing.append(f"min_samples {budget.min_samples}: {samples} taken")
    if seconds < budget.min_seconds:
        missing.append(f"min_seconds {budget.min_seconds:g}: {seconds:.2f} s measured")
    return "; ".join(missing) or None
