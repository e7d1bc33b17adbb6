"""NVIDIA GPUs through NVML: what they report, who computes on them, and which of them CUDA means."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from harness.latency.reading import Reading


class NvmlSource:
    """An NVIDIA GPU, or a MIG slice of one, through NVML."""

    origin = "nvml"

    def __init__(self, nvml: Any, handle: Any) -> None:
        """Read one GPU.

        Args:
            nvml: The pynvml module, initialised.
            handle: NVML's handle of the device.
        """
        self._nvml, self._handle = nvml, handle
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
    def open(cls, uuids: Sequence[str] = ()) -> NvmlSource | None:
        """Open the first GPU or MIG slice of these UUIDs that NVML knows, without any the first visible GPU.

        Returns:
            None without pynvml, driver or such a device. A device that was named is never stood in for by another.
        """
        nvml = _initialised()
        if nvml is None:
            return None
        if uuids:
            handles = (_call(nvml, "nvmlDeviceGetHandleByUUID", uuid) for uuid in uuids)
        else:
            index = visible_index(os.environ.get("CUDA_VISIBLE_DEVICES"))
            handles = (_call(nvml, "nvmlDeviceGetHandleByIndex", i) for i in [index] if i is not None)
        return next((cls(nvml, handle) for handle in handles if handle is not None), None)

    @classmethod
    def every(cls) -> tuple[NvmlSource, ...]:
        """Every GPU of this machine, in NVML's order, whatever CUDA_VISIBLE_DEVICES says."""
        nvml = _initialised()
        handles = [] if nvml is None else map(nvml.nvmlDeviceGetHandleByIndex, range(nvml.nvmlDeviceGetCount()))
        return tuple(cls(nvml, handle) for handle in handles)

    @property
    def name(self) -> str | None:
        """Product name, e.g. "NVIDIA H100 80GB HBM3"."""
        name = self._call("nvmlDeviceGetName")
        return name.decode() if isinstance(name, bytes) else name

    @property
    def driver(self) -> str | None:
        """Driver version."""
        version = _call(self._nvml, "nvmlSystemGetDriverVersion")
        return version.decode() if isinstance(version, bytes) else version

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
        )

    def compute_pids(self) -> tuple[int, ...] | None:
        """Processes with a compute context on this GPU; None when the driver does not tell."""
        processes = self._call("nvmlDeviceGetComputeRunningProcesses")
        return None if processes is None else tuple(int(process.pid) for process in processes)

    def memory(self) -> tuple[int, int] | None:
        """Memory of its own: all and free, bytes; None where it shares the system's (GB10, Jetson)."""
        memory = self._call("nvmlDeviceGetMemoryInfo")
        return None if memory is None else (int(memory.total), int(memory.free))

    def busy(self) -> float | None:
        """Share of NVML's last sample period (1/6 to 1 s) in which a kernel ran; None where it does not tell (MIG)."""
        rates = self._call("nvmlDeviceGetUtilizationRates")
        return None if rates is None else rates.gpu / 100

    def is_slice(self) -> bool:
        """Whether this is a MIG slice, of which NVML tells neither clocks nor power: those are the whole GPU's."""
        return bool(self._call("nvmlDeviceIsMigDeviceHandle"))

    def _call(self, function: str, *arguments: Any) -> Any:
        return _call(self._nvml, function, self._handle, *arguments)


def _initialised() -> Any:
    """The pynvml module, ready to be asked; None without it or without a driver."""
    try:
        import pynvml  # type: ignore[import-untyped,unused-ignore]

        pynvml.nvmlInit()
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None
    return pynvml


def _call(nvml: Any, function: str, *arguments: Any) -> Any:
    """Call NVML; None when this GPU or driver does not support it (GB10, Jetson and MIG slices lack several)."""
    try:
        return getattr(nvml, function)(*arguments)
    except (nvml.NVMLError, AttributeError):
        return None


def cuda_uuids(device: str | None = None) -> tuple[str, ...]:
    """UUIDs under which NVML may know a CUDA device.

    NVML ignores CUDA_VISIBLE_DEVICES, so that indices of the two disagree; what CUDA calls a UUID may be a GPU's or a
    MIG slice's. A process that sees a slice sees that one alone (NVIDIA MIG user guide, "CUDA Visible Devices").

    Args:
        device: torch's name of the device; None for the current one.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    torch: Any = sys.modules.get("torch")
    if visible.startswith("MIG-") or torch is None or not torch.cuda.is_available():
        return (visible,) if visible.startswith(("GPU-", "MIG-")) else ()
    uuid = getattr(torch.cuda.get_device_properties(torch.device(device or "cuda")), "uuid", None)
    return () if uuid is None else (f"GPU-{uuid}", f"MIG-{uuid}")


def visible_index(visible: str | None) -> int | None:
    """Index of the first GPU that CUDA_VISIBLE_DEVICES leaves; None when it hides all, 0 when it is unset."""
    if visible is None:
        return 0
    first = visible.split(",")[0].strip()
    return int(first) if first.isdigit() else None
