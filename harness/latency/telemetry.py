"""Clock, temperature, power and throttling beside the samples: read in a thread, joined by time, never invented.

What a machine does not report stays None, and each value says which source it is from: NVML for NVIDIA GPUs, sysfs for
Jetson (INA3221 rails, devfreq, thermal zones), psutil and sysfs for CPUs.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from harness.latency.nvml import NvmlSource, cuda_uuids
from harness.latency.reading import Reading, TelemetrySource
from harness.latency.sysfs import CpuSource, JetsonSource, SharedMemory

FROM_POWER = "power_w"
"""Source of an energy that is power times duration where the device has no counter."""


class FirstAnswer:
    """Several sources of one device: each field is from the first of them that reports it."""

    origin = "first answer"

    def __init__(self, sources: Sequence[TelemetrySource]) -> None:
        """Ask several sources.

        Args:
            sources: Best first: the first that has a value gives it.
        """
        self.sources = tuple(sources)

    def read(self) -> Reading:
        """Read them all."""
        values: dict[str, float] = {}
        origins: dict[str, str] = {}
        for source in self.sources:
            reading = source.read()
            for name in MEASURED:
                value = getattr(reading, name)
                if value is not None and name not in values:
                    values[name], origins[name] = value, source.origin
        return replace(Reading(**values), sources=origins)  # type: ignore[arg-type]

    def compute_pids(self) -> tuple[int, ...] | None:
        """Processes that compute on the device; None when no source tells."""
        asked = (source.compute_pids() for source in self.sources if isinstance(source, NvmlSource))
        return next((pids for pids in asked if pids is not None), None)


MEASURED = tuple(field.name for field in fields(Reading) if field.name != "sources")
"""Fields of a reading that a source fills."""


class Energy(NamedTuple):
    """Energy of the device in a stretch of time."""

    joules: float | None
    source: str | None
    """The counter's source, or `FROM_POWER`."""


class Telemetry:
    """Reads a source in a daemon thread while the context is open.

    Example:
        with Telemetry(find_source()) as telemetry:
            ...
        telemetry.at(clock.seconds())
    """

    def __init__(
        self,
        source: TelemetrySource | None,
        *,
        interval_s: float = 0.2,
        seconds: Callable[[], float] = time.perf_counter,
        before: Reading | None = None,
    ) -> None:
        """Prepare; nothing is read before the context is entered.

        Args:
            source: What to read; None reports nothing.
            interval_s: Seconds between readings.
            seconds: The same stopwatch as the samples' (`Clock.seconds`).
            before: A reading from before the policy was built, for the rise of used memory.
        """
        self._source, self._interval_s, self._seconds = source, interval_s, seconds
        self._before = before
        self._times: list[float] = []
        self._readings: list[Reading] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Take a first reading and start the thread."""
        if self._source is not None:
            self._take(self._source)
            self._thread = threading.Thread(target=self._run, args=(self._source,), name="telemetry", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def at(self, seconds: float) -> Reading:
        """Return the reading nearest to an instant; empty when none lies within two intervals (and one second)."""
        index = bisect.bisect(self._times, seconds)
        near = [i for i in (index - 1, index) if 0 <= i < len(self._readings)]
        if not near:
            return Reading()
        best = min(near, key=lambda i: abs(self._times[i] - seconds))
        reach_s = max(2 * self._interval_s, 1.0)
        return self._readings[best] if abs(self._times[best] - seconds) <= reach_s else Reading()

    def energy(self, start: float, end: float) -> Energy:
        """Energy of the device between two instants.

        From the device's own counter where it has one, along the straight line between two readings; else the power
        read nearest to the middle times the duration; None where neither is reported.
        """
        counted = [
            (at, r.energy_j) for at, r in zip(self._times, self._readings, strict=False) if r.energy_j is not None
        ]
        middle = self.at((start + end) / 2)
        if len(counted) > 1 and counted[0][0] <= start and end <= counted[-1][0]:
            times, joules = zip(*counted, strict=True)
            used = max(0.0, _between(times, joules, end) - _between(times, joules, start))
            return Energy(used, middle.sources.get("energy_j"))
        return Energy(None, None) if middle.power_w is None else Energy(middle.power_w * (end - start), FROM_POWER)

    @property
    def memory_rise_bytes(self) -> int | None:
        """Most used memory of a shared-memory module over what was used at the start; None elsewhere."""
        used = [reading.memory_used_bytes for reading in self._readings if reading.memory_used_bytes is not None]
        first = self._before.memory_used_bytes if self._before is not None else None
        return max(0, max(used) - (used[0] if first is None else first)) if used else None

    def _run(self, source: TelemetrySource) -> None:
        while not self._stop.wait(self._interval_s):
            self._take(source)

    def _take(self, source: TelemetrySource) -> None:
        before = self._seconds()
        reading = source.read()
        # Readings before times: `at` looks up by times, so it never finds a time without its reading.
        self._readings.append(reading)
        self._times.append((before + self._seconds()) / 2)


def _between(times: Sequence[float], values: Sequence[float], at: float) -> float:
    """Linear interpolation at an instant that `times`, which ascend, enclose."""
    after = min(max(bisect.bisect(times, at), 1), len(times) - 1)
    before = after - 1
    span = times[after] - times[before]
    share = (at - times[before]) / span if span > 0 else 0.0
    return values[before] + share * (values[after] - values[before])


def find_source(device: str | None = None, *, root: Path = Path("/")) -> TelemetrySource | None:
    """Find what reports on the device that runs the policy; nothing else stands in for it.

    Args:
        device: torch's name of it, e.g. "cuda:0" or "cpu"; None for "whatever accelerator this machine has", or its CPU
            when it has none.
        root: Root of the file system, for sysfs.

    Returns:
        None for an accelerator of which nothing here reports: its clock is not the CPU's.
    """
    if device is not None and device.startswith("cpu"):
        return FirstAnswer([CpuSource(root)])
    uuids = cuda_uuids(device)
    nvml, jetson = NvmlSource.open(uuids), JetsonSource.find(root)
    found: list[TelemetrySource] = [source for source in (jetson, nvml) if source is not None]
    if jetson is not None or (nvml is not None and nvml.memory() is None and not nvml.is_slice()):
        found.append(SharedMemory(root))
    if not found and device is None and not uuids:
        found.append(CpuSource(root))
    return FirstAnswer(found) if found else None
