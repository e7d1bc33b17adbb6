"""When a measurement is warm and when it is enough: pure functions of durations and counts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from harness.spec.budget import Budget


def is_warm(durations: Sequence[float], window: int, tolerance: float) -> bool:
    """Tell whether the medians of the last three windows lie within `tolerance` of each other.

    The medians are of whole windows counted from the start, so that a decision is made once per window.
    """
    if len(durations) < 3 * window or len(durations) % window:
        return False
    ends = range(len(durations) - 2 * window, len(durations) + 1, window)
    medians = [median(durations[end - window : end]) for end in ends]
    return max(medians) <= (1 + tolerance) * min(medians)


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
