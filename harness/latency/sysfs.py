"""What the kernel's files report: a Jetson module, memory that CPU and GPU share, and CPUs."""

from __future__ import annotations

from pathlib import Path

import psutil

from harness.latency.reading import Reading


class JetsonSource:
    """A Jetson module through sysfs."""

    origin = "sysfs"

    def __init__(
        self,
        rails: list[tuple[Path, Path]],
        clock: Path | None,
        temperature: Path | None,
        memory_clock: Path | None = None,
    ) -> None:
        """Read these files whenever a reading is taken.

        Args:
            rails: (voltage in mV, current in mA) of the module's input rail.
            clock: Clock of the GPU.
            temperature: Its temperature.
            memory_clock: Clock of the memory.
        """
        self._rails, self._clock, self._temperature = rails, clock, temperature
        self._memory_clock = memory_clock

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
        )


class SharedMemory:
    """Memory of a machine whose CPU and GPU share it."""

    origin = "meminfo"

    def __init__(self, root: Path = Path("/")) -> None:
        """Read the kernel's account of memory.

        Args:
            root: Root of the file system.
        """
        self._file = root / "proc/meminfo"

    def read(self) -> Reading:
        """Read what is in use: all that is not available to a new process."""
        lines = (line.partition(":") for line in _text(self._file).splitlines())
        kilobytes = {name: int(value.split()[0]) for name, _, value in lines if value.split()}
        if not {"MemTotal", "MemAvailable"} <= set(kilobytes):
            return Reading()
        return Reading(memory_used_bytes=(kilobytes["MemTotal"] - kilobytes["MemAvailable"]) * 1024)


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

    origin = "cpu"

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
