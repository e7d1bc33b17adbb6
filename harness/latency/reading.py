"""One reading of a device's clocks, temperature, power and memory, and what gives one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading; None is "not reported"."""

    sm_clock_mhz: float | None = None
    """Clock of the unit that runs the policy: SM clock of a GPU, mean core clock of a CPU."""
    temperature_c: float | None = None
    power_w: float | None = None
    """Power of the board or module (GPU board on discrete GPUs, VDD_IN on Jetson)."""
    throttled: bool | None = None
    """Whether heat, power or an external brake held the clock down."""
    memory_clock_mhz: float | None = None
    """Clock of the memory that the policy's unit reads."""
    energy_j: float | None = None
    """Energy that the device has taken since some fixed moment, where it counts."""
    memory_used_bytes: int | None = None
    """Used memory of a module whose CPU and GPU share it; None elsewhere."""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Field → source that filled it, e.g. "nvml"; empty in what a single source answers."""


class TelemetrySource(Protocol):
    """Something that can be read."""

    origin: str
    """Its name in the ledger."""

    def read(self) -> Reading:
        """Read now; what cannot be read is None."""
        ...
