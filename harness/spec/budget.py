"""Budget: how long a probe warms a policy up and measures it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.spec.resolve import SpecModel


class Budget(SpecModel):
    """Time and samples of one configuration (a policy at one NFE and batch size)."""

    min_seconds: Annotated[float, Field(ge=0)] = 10.0
    """Least measuring time, seconds; the measurement ends when this *and* `min_samples` are reached."""
    min_samples: Annotated[int, Field(ge=1, le=10**9)] = 50
    """Least number of end-to-end samples."""
    max_seconds: float = 300.0
    """Measuring ends here even if a criterion is unmet, with a warning that names it; where it is not given, no sooner
    than `min_seconds`."""
    warmup_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Most time for the latency to settle after the first call, seconds; warm-up ends here with a warning."""
    warmup_window: Annotated[int, Field(ge=1)] = 5
    """Calls in one window of the warm-up; it needs three windows."""
    warmup_tolerance: Annotated[float, Field(gt=0)] = 0.03
    """Warm when the medians of the last three windows lie within this fraction of each other."""
    components_every: Annotated[int, Field(ge=1)] = 1
    """One decision is timed by component after so many that are timed end to end."""

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if "max_seconds" not in self.model_fields_set:
            object.__setattr__(self, "max_seconds", max(self.max_seconds, self.min_seconds))
        if self.max_seconds < self.min_seconds:
            raise ValueError(f"max_seconds ({self.max_seconds:g}) is below min_seconds ({self.min_seconds:g})")
        return self
