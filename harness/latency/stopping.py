"""When a measurement is warm and when it is enough: pure functions of durations and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.errors import UsageError


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one configuration is warmed up and measured."""

    min_seconds: float = 10.0
    """Least measuring time, seconds; the measurement ends when this *and* `min_samples` are reached."""
    min_samples: int = 50
    """Least number of end-to-end samples."""
    max_seconds: float = 300.0
    """Measuring ends here even if a criterion is unmet, with a warning that names it."""
    warmup_seconds: float = 60.0
    """Warm-up ends here even if the latency has not settled, with a warning."""
    warmup_window: int = 5
    """Calls in one window of the warm-up; it needs three windows."""
    warmup_tolerance: float = 0.03
    """Warm when the medians of the last three windows lie within this fraction of each other."""

    components_every: int = 1
    """One decision is timed by component after so many that are timed end to end."""

    def __post_init__(self) -> None:
        """Refuse what can never stop.

        Raises:
            UsageError: Names the value.
        """
        if self.min_samples < 1:
            raise UsageError(f"min_samples is {self.min_samples}; at least 1 is needed.")
        if self.components_every < 1:
            raise UsageError(f"components_every is {self.components_every}; at least 1 is needed.")
        if self.min_seconds < 0 or self.warmup_seconds < 0:
            raise UsageError(
                f"min_seconds ({self.min_seconds}) and warmup_seconds ({self.warmup_seconds}) must be 0 or more."
            )
        if self.max_seconds < self.min_seconds:
            raise UsageError(f"max_seconds ({self.max_seconds}) is below min_seconds ({self.min_seconds}); raise it.")
        if self.warmup_window < 1 or self.warmup_tolerance <= 0:
            raise UsageError(
                f"warmup_window ({self.warmup_window}) must be ≥ 1, warmup_tolerance ({self.warmup_tolerance}) > 0."
            )


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
