"""Clock, temperature, power and throttling beside the samples: read in a thread, joined by time, never invented.

What a machine does not report stays None. Sources: NVML for discrete NVIDIA GPUs and GB10, sysfs for Jetson (INA3221
rails, devfreq, thermal zones), psutil and sysfs for CPUs.
"""

from __future__ import annotations

import bisect
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psutil


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


class TelemetrySource(Protocol):
    """Something that can be read."""

    def read(self) -> Reading:
        """Read now; what cannot be read is None."""
        ...


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

    def energy_j(self, start: float, end: float) -> float | None:
        """Energy of the device between two instants, joules.

        From the device's own counter where it has one, along the straight line between two readings; else the power
        read nearest to the middle times the duration; None where neither is reported.
        """
        counted = [
            (at, r.energy_j) for at, r in zip(self._times, self._readings, strict=False) if r.energy_j is not None
        ]
        if len(counted) > 1 and counted[0][0] <= start and end <= counted[-1][0]:
            times, joules = zip(*counted, strict=True)
            return max(0.0, _between(times, joules, end) - _between(times, joules, start))
        power = self.at((start + end) / 2).power_w
        return None if power is None else power * (end - start)

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
    """Find what reports on the device that runs the policy.

    Args:
        device: torch's name of it, e.g. "cuda:0" or "cpu"; None for "whatever accelerator this machine has".
        root: Root of the file system, for sysfs.
    """
    if device is not None and device.startswith("cpu"):
        return CpuSource(root)
    nvml = NvmlSource.open(cuda_uuid(device))
    if nvml is not None:
        return nvml
    jetson = JetsonSource.find(root)
    return jetson if jetson is not None else CpuSource(root)


def cuda_uuid(device: str | None) -> str | None:
    """UUID of a CUDA device, as NVML spells it: NVML ignores CUDA_VISIBLE_DEVICES, so indices of the two disagree."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
        return visible if visible.startswith(("GPU-", "MIG-")) else None
    uuid = getattr(torch.cuda.get_device_properties(torch.device(device or "cuda")), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"


class NvmlSource:
    """An NVIDIA GPU through NVML."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Args: the pynvml module, initialised, and a device handle."""
        self._nvml, self._handle = nvml, handle
        self._has_memory: bool | None = None
        held = (
            "SwPowerCap",
            "HwSlowdown",
            "SwThermalSlowdown",
            "HwThermalSlowdown",
            "HwPowerBrakeSlowdown",
        )
        # Newer drivers say EventReasons, older ThrottleReasons; the bits are the same.
        self._held = 0
        for name in held:
            self._held |= int(
                getattr(nvml, f"nvmlClocksEventReason{name}", getattr(nvml, f"nvmlClocksThrottleReason{name}", 0))
            )

    @classmethod
    def open(cls, uuid: str | None = None) -> NvmlSource | None:
        """Open a GPU by UUID, else the first visible one; None without pynvml, driver or GPU."""
        try:
            import pynvml  # type: ignore[import-untyped,unused-ignore]
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            if uuid is not None:
                return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
            index = visible_index(os.environ.get("CUDA_VISIBLE_DEVICES"))
            return None if index is None else cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
        except pynvml.NVMLError:
            return None

    @property
    def name(self) -> str | None:
        """Product name, e.g. "NVIDIA H100 80GB HBM3"."""
        name = self._call("nvmlDeviceGetName")
        return name.decode() if isinstance(name, bytes) else name

    @property
    def driver(self) -> str | None:
        """Driver version."""
        try:
            version = self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return None
        return version.decode() if isinstance(version, bytes) else str(version)

    def read(self) -> Reading:
        """Read clock, temperature, power and the reasons that hold the clock."""
        clock = self._call("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)
        memory_clock = self._call("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM)
        millijoules = self._call("nvmlDeviceGetTotalEnergyConsumption")
        temperature = self._call("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU)
        milliwatts = self._call("nvmlDeviceGetPowerUsage")
        reasons = self._call("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = self._call("nvmlDeviceGetCurrentClocksThrottleReasons")
        return Reading(
            sm_clock_mhz=None if clock is None else float(clock),
            temperature_c=None if temperature is None else float(temperature),
            power_w=None if milliwatts is None else milliwatts / 1000,
            throttled=None if reasons is None else bool(reasons & self._held),
            memory_clock_mhz=None if memory_clock is None else float(memory_clock),
            energy_j=None if millijoules is None else millijoules / 1000,
            memory_used_bytes=self._shared_memory(),
        )

    def compute_pids(self) -> tuple[int, ...] | None:
        """Processes with a compute context on this GPU; None when the driver does not tell."""
        processes = self._call("nvmlDeviceGetComputeRunningProcesses")
        return None if processes is None else tuple(int(process.pid) for process in processes)

    def _shared_memory(self) -> int | None:
        """Used memory of the system where the GPU has none of its own (GB10 answers no query for memory)."""
        if self._has_memory is None:
            self._has_memory = self._call("nvmlDeviceGetMemoryInfo") is not None
        return None if self._has_memory else int(psutil.virtual_memory().used)

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call NVML; None when this GPU or driver does not support it (GB10 and Jetson lack several)."""
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None


def visible_index(visible: str | None) -> int | None:
    """Index of the first GPU that CUDA_VISIBLE_DEVICES leaves; None when it hides all, 0 when it is unset."""
    if visible is None:
        return 0
    first = visible.split(",")[0].strip()
    return int(first) if first.isdigit() else None


class JetsonSource:
    """A Jetson module through sysfs; no NVML there reports power."""

    def __init__(
        self,
        rails: list[tuple[Path, Path]],
        clock: Path | None,
        temperature: Path | None,
        memory_clock: Path | None = None,
        memory: Path | None = None,
    ) -> None:
        """Args: (mV, mA) files of the module's input rail; GPU clock, temperature, memory clock, memory in use."""
        self._rails, self._clock, self._temperature = rails, clock, temperature
        self._memory_clock, self._memory = memory_clock, memory

    @classmethod
    def find(cls, root: Path = Path("/")) -> JetsonSource | None:
        """Find the files below `root`; None when this is no Jetson."""
        if jetson_model(root) is None:
            return None
        return cls(
            _input_rails(root / "sys/class/hwmon"),
            _first(root / "sys/class/devfreq", ("*gpu*/cur_freq", "*ga10b*/cur_freq", "*gb10b*/cur_freq")),
            _gpu_zone(root / "sys/class/thermal"),
            # Readable by root alone, or absent, on most releases.
            _first(root / "sys/kernel/debug", ("bpmp/debug/clk/emc/rate", "clk/emc/clk_rate")),
            root / "proc/meminfo",
        )

    def read(self) -> Reading:
        """Read the files; which throttle reason holds is not reported by sysfs."""
        clock, memory_clock = _number(self._clock), _number(self._memory_clock)
        temperature = _number(self._temperature)
        rails = [(_number(voltage), _number(current)) for voltage, current in self._rails]
        power = [v * a / 1e6 for v, a in rails if v is not None and a is not None]
        return Reading(
            sm_clock_mhz=None if clock is None else clock / 1e6,
            temperature_c=None if temperature is None else temperature / 1000,
            power_w=sum(power) if power and len(power) == len(rails) else None,
            memory_clock_mhz=None if memory_clock is None else memory_clock / 1e6,
            memory_used_bytes=_used_bytes(self._memory),
        )


def _used_bytes(meminfo: Path | None) -> int | None:
    """Used memory by /proc/meminfo: all that is not available to a new process."""
    lines = [] if meminfo is None else _text(meminfo).splitlines()
    kilobytes = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.split()}
    if not {"MemTotal", "MemAvailable"} <= set(kilobytes):
        return None
    return (int(kilobytes["MemTotal"]) - int(kilobytes["MemAvailable"])) * 1024


def jetson_model(root: Path = Path("/")) -> str | None:
    """Model of a Jetson, e.g. "NVIDIA Jetson AGX Orin Developer Kit"; None elsewhere."""
    for path in (root / "proc/device-tree/model", root / "sys/firmware/devicetree/base/model"):
        try:
            model = path.read_bytes().rstrip(b"\0").decode(errors="replace").strip()
        except OSError:
            continue
        if "Jetson" in model or "Orin" in model or "Thor" in model:
            return model
    return None


def _input_rails(hwmon: Path) -> list[tuple[Path, Path]]:
    """Files of the rail that feeds the whole module (VDD_IN, on AGX the sum is not exposed as one rail: then none)."""
    for label in sorted(hwmon.glob("hwmon*/in*_label")):
        if _text(label) == "VDD_IN":
            index = label.name.removeprefix("in").removesuffix("_label")
            return [(label.with_name(f"in{index}_input"), label.with_name(f"curr{index}_input"))]
    return []


def _gpu_zone(thermal: Path) -> Path | None:
    for zone in sorted(thermal.glob("thermal_zone*/type")):
        if _text(zone).lower().startswith("gpu"):
            return zone.with_name("temp")
    return None


def _first(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            return path
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path | None) -> float | None:
    try:
        return None if path is None else float(path.read_text())
    except (OSError, ValueError):
        return None


class CpuSource:
    """The CPU, where the kernel reports it."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Find the cores' frequency files once.

        Only cpufreq counts: in a virtual machine /proc/cpuinfo shows the nominal clock, which is no measurement.
        """
        self._clocks = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))

    def read(self) -> Reading:
        """Read the mean clock of the cores and the package temperature."""
        clocks = [kilohertz for kilohertz in map(_number, self._clocks) if kilohertz is not None]
        return Reading(
            sm_clock_mhz=sum(clocks) / len(clocks) / 1000 if clocks else None, temperature_c=_package_temperature()
        )


def _package_temperature() -> float | None:
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    for chip in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
        if sensors.get(chip):
            return float(sensors[chip][0].current)
    return None
