"""Specification of telemetry: what is not reported stays empty."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.latency.node import find_accelerator
from harness.latency.nvml import NvmlSource, visible_index
from harness.latency.reading import Reading
from harness.latency.sysfs import CpuSource, JetsonSource, jetson_model
from harness.latency.telemetry import FROM_POWER, Energy, FirstAnswer, Telemetry, find_source


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon3/in1_input": "5000\n",
    "sys/class/hwmon/hwmon3/curr1_input": "1500\n",
    "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon3/in2_input": "5000\n",
    "sys/class/hwmon/hwmon3/curr2_input": "300\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "612000000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48000\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "46500\n",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000\n",
    "proc/meminfo": "MemTotal:        7802832 kB\nMemFree:  1000000 kB\nMemAvailable:    5802832 kB\n",
}


class Counting:
    """A source whose clock counts its readings."""

    origin = "counting"

    def __init__(self) -> None:  # noqa: D107
        self.n = 0

    def read(self) -> Reading:
        self.n += 1
        return Reading(sm_clock_mhz=float(self.n))


def test_each_instant_gets_the_reading_nearest_to_it() -> None:
    times = iter([0.0, 0.0, 10.0, 10.0])
    telemetry = Telemetry(Counting(), interval_s=20, seconds=lambda: next(times))
    with telemetry:
        telemetry._take(telemetry._source)  # type: ignore[arg-type]
    assert telemetry.at(1.0).sm_clock_mhz == 1
    assert telemetry.at(9.0).sm_clock_mhz == 2


def test_an_instant_far_from_every_reading_gets_nothing() -> None:
    times = iter([0.0, 0.0])
    with Telemetry(Counting(), interval_s=0.5, seconds=lambda: next(times)) as telemetry:
        telemetry._stop.set()
    assert telemetry.at(0.9) == Reading(sm_clock_mhz=1.0)
    assert telemetry.at(1.1) == Reading()


def test_without_a_source_everything_is_empty() -> None:
    with Telemetry(None) as telemetry:
        assert telemetry.at(time.perf_counter()) == Reading()


def test_it_reads_on_its_own_while_open_and_stops_after() -> None:
    source = Counting()
    with Telemetry(source, interval_s=0.01):
        deadline = time.monotonic() + 10
        while source.n < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert source.n >= 5
    stopped = source.n
    time.sleep(0.05)
    assert source.n == stopped


def test_a_jetson_reports_its_input_rail_gpu_clock_and_gpu_zone(tmp_path: Path) -> None:
    source = JetsonSource.find(write(tmp_path, JETSON))
    assert source is not None
    assert source.read() == Reading(
        sm_clock_mhz=612.0,
        temperature_c=46.5,
        power_w=7.5,
        throttled=None,
        memory_clock_mhz=2133.0,
    )


def test_a_jetson_without_those_files_reports_nothing(tmp_path: Path) -> None:
    source = JetsonSource.find(write(tmp_path, {"proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0"}))
    assert source is not None
    assert source.read() == Reading()


def test_another_board_with_a_device_tree_is_no_jetson(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/device-tree/model": "Raspberry Pi 5 Model B\0"})
    assert jetson_model(root) is None
    source = find_source("cpu", root=root)
    assert isinstance(source, FirstAnswer)
    assert [type(one) for one in source.sources] == [CpuSource]


def test_a_cpu_reports_the_mean_of_its_cores_clocks(tmp_path: Path) -> None:
    files = {f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq": f"{n + 1}000000\n" for n in range(2)}
    assert CpuSource(write(tmp_path, files)).read().sm_clock_mhz == 1500.0


def test_a_virtual_cpu_that_reports_no_clock_has_none(tmp_path: Path) -> None:
    assert CpuSource(tmp_path).read().sm_clock_mhz is None


class FakeNvml:
    """pynvml as far as it is used, for a card that lacks what `missing` names."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksEventReasonSwPowerCap = 0x4
    nvmlClocksEventReasonHwSlowdown = 0x8
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80

    class NVMLError(Exception):
        """Not supported."""

    def __init__(self, reasons: int, missing: frozenset[str] = frozenset()) -> None:  # noqa: D107
        self.answers: dict[str, Any] = {
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 412_500,
            "nvmlDeviceGetCurrentClocksEventReasons": reasons,
            "nvmlDeviceGetTotalEnergyConsumption": 5_000,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 10**9, free=10**9),
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=7), SimpleNamespace(pid=9)],
        }
        self.missing = missing

    def __getattr__(self, name: str) -> Any:  # noqa: D105
        if name not in self.answers:
            raise AttributeError(name)

        def call(*arguments: object) -> Any:
            if name in self.missing:
                raise self.NVMLError
            if name == "nvmlDeviceGetClockInfo":
                return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[arguments[1]]  # type: ignore[index]
            return self.answers[name]

        return call


@pytest.mark.parametrize(
    ("reasons", "throttled"), [(0x0, False), (0x1, False), (0x4, True), (0x20, True), (0x41, True)]
)
def test_a_gpu_reports_clock_temperature_power_and_whether_it_is_held_back(reasons: int, throttled: bool) -> None:
    reading = NvmlSource(FakeNvml(reasons), SimpleNamespace()).read()
    assert reading == Reading(
        sm_clock_mhz=1980.0,
        temperature_c=61.0,
        power_w=412.5,
        throttled=throttled,
        memory_clock_mhz=2619.0,
        energy_j=5.0,
    )


def test_what_a_gpu_does_not_support_stays_empty() -> None:
    missing = frozenset({"nvmlDeviceGetPowerUsage", "nvmlDeviceGetCurrentClocksEventReasons"})
    reading = NvmlSource(FakeNvml(0, missing), SimpleNamespace()).read()
    assert (reading.power_w, reading.throttled, reading.sm_clock_mhz) == (None, None, 1980.0)


NVML_ANSWERS_NOTHING = frozenset(
    {
        *("nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetMemoryInfo"),
        *("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTotalEnergyConsumption"),
    }
)
MIG = "MIG-22222222-2222-2222-2222-222222222222"


def with_nvml(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml, handles: dict[str, str] | None = None) -> None:
    """Install an NVML that knows one GPU by index and these devices by UUID."""

    def by_uuid(uuid: str) -> str:
        try:
            return (handles or {})[uuid]
        except KeyError:
            raise nvml.NVMLError("Not Found") from None

    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetHandleByIndex = lambda index: "gpu"
    nvml.nvmlDeviceGetHandleByUUID = by_uuid
    nvml.nvmlDeviceIsMigDeviceHandle = lambda handle: handle == "slice"
    nvml.nvmlDeviceGetName = lambda handle: "NVIDIA A100-SXM4-80GB" + (" MIG 1g.10gb" if handle == "slice" else "")
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def read_from(root: Path, device: str | None = None) -> Reading:
    source = find_source(device, root=root)
    assert source is not None
    return source.read()


def test_a_jetson_whose_nvml_answers_nothing_is_read_from_sysfs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_nvml(monkeypatch, FakeNvml(0, NVML_ANSWERS_NOTHING))
    reading = read_from(write(tmp_path, JETSON))
    assert (reading.sm_clock_mhz, reading.temperature_c, reading.power_w) == (612.0, 46.5, 7.5)
    assert reading.memory_used_bytes == 2_048_000_000
    assert set(reading.sources.values()) == {"sysfs", "meminfo"}


def test_what_one_source_leaves_out_the_next_one_fills_and_each_value_says_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_nvml(monkeypatch, FakeNvml(0x20))
    reading = read_from(write(tmp_path, JETSON))
    assert (reading.power_w, reading.throttled, reading.energy_j) == (7.5, True, 5.0)
    assert reading.sources == {
        **dict.fromkeys(("sm_clock_mhz", "temperature_c", "power_w", "memory_clock_mhz"), "sysfs"),
        **dict.fromkeys(("throttled", "energy_j"), "nvml"),
        "memory_used_bytes": "meminfo",
    }


def test_used_memory_has_one_definition_whether_or_not_nvml_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The baseline is read before torch is loaded, the peak after, by another way to the device."""
    root = write(tmp_path, JETSON)
    with_nvml(monkeypatch, FakeNvml(0))
    baseline = read_from(root).memory_used_bytes
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_from(root, "cuda:0").memory_used_bytes == baseline == 2_048_000_000


def test_a_gpu_without_memory_of_its_own_reports_what_the_system_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, {"proc/meminfo": JETSON["proc/meminfo"]})
    with_nvml(monkeypatch, FakeNvml(0, frozenset({"nvmlDeviceGetMemoryInfo"})))
    assert read_from(root, "cuda:0").memory_used_bytes == 2_048_000_000
    with_nvml(monkeypatch, FakeNvml(0))
    assert read_from(root, "cuda:0").memory_used_bytes is None


def test_an_accelerator_that_nothing_reports_on_is_not_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "3000000\n"}
    root = write(tmp_path, files)
    with_nvml(monkeypatch, FakeNvml(0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG)
    assert find_source("cuda:0", root=root) is None
    assert find_source(None, root=root) is None
    assert find_accelerator("cuda:0", root=root) == (f"NVIDIA {MIG}", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert find_source("cuda:0", root=root) is None
    assert read_from(root, None).sm_clock_mhz == 3000.0


def test_a_mig_slice_is_its_own_device_of_which_the_whole_gpu_s_values_are_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_nvml(monkeypatch, FakeNvml(0, NVML_ANSWERS_NOTHING), {MIG: "slice"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG)
    assert read_from(write(tmp_path, {"proc/meminfo": JETSON["proc/meminfo"]}), "cuda:0") == Reading()
    assert find_accelerator("cuda:0", root=tmp_path)[0] == "NVIDIA A100-SXM4-80GB MIG 1g.10gb"


def test_a_gpu_names_the_processes_that_compute_on_it_where_the_driver_tells() -> None:
    assert NvmlSource(FakeNvml(0), SimpleNamespace()).compute_pids() == (7, 9)
    silent = NvmlSource(FakeNvml(0, frozenset({"nvmlDeviceGetComputeRunningProcesses"})), SimpleNamespace())
    assert silent.compute_pids() is None


class Scripted:
    """A source that answers readings in turn."""

    origin = "scripted"

    def __init__(self, *readings: Reading) -> None:  # noqa: D107
        self.readings = list(readings)

    def read(self) -> Reading:
        return self.readings.pop(0)


def telemetry_of(seconds: list[float], *readings: Reading, before: Reading | None = None) -> Telemetry:
    """Telemetry that took each reading at its second."""
    times = iter([moment for second in seconds for moment in (second, second)])
    source = Scripted(*readings)
    telemetry = Telemetry(source, interval_s=60, seconds=lambda: next(times), before=before)
    for _ in readings:
        telemetry._take(source)
    return telemetry


def test_energy_is_read_from_the_device_s_counter_between_two_readings() -> None:
    telemetry = telemetry_of([0.0, 1.0, 2.0], *(Reading(energy_j=joules, power_w=1.0) for joules in (100, 400, 500)))
    assert telemetry.energy(0.0, 2.0).joules == pytest.approx(400)
    assert telemetry.energy(0.25, 0.75).joules == pytest.approx(150)
    assert telemetry.energy(0.5, 1.5).joules == pytest.approx(200)


def test_energy_without_a_counter_is_power_times_time_and_without_power_unknown() -> None:
    assert telemetry_of([0.0], Reading(power_w=20.0)).energy(0.0, 0.5) == Energy(10.0, FROM_POWER)
    assert telemetry_of([0.0], Reading()).energy(0.0, 0.5).joules is None
    # Outside the counter's readings nothing is extrapolated.
    edge = telemetry_of([0.0, 1.0], *(Reading(energy_j=joules, power_w=30.0) for joules in (100, 400)))
    assert edge.energy(0.9, 1.1).joules == pytest.approx(6)


def test_the_rise_of_shared_memory_counts_from_before_the_policy_was_built() -> None:
    used = [Reading(memory_used_bytes=gigabytes * 10**9) for gigabytes in (5, 7, 6)]
    telemetry = telemetry_of([0.0, 1.0, 2.0], *used, before=Reading(memory_used_bytes=2 * 10**9))
    assert telemetry.memory_rise_bytes == 5 * 10**9
    assert telemetry_of([0.0], Reading()).memory_rise_bytes is None


@pytest.mark.parametrize(("visible", "index"), [(None, 0), ("2,3", 2), ("", None), ("-1", None), ("NoDevFiles", None)])
def test_the_first_visible_gpu_is_the_one_that_is_read(visible: str | None, index: int | None) -> None:
    assert visible_index(visible) == index


@pytest.mark.gpu
def test_a_real_gpu_reports_clock_temperature_and_power() -> None:
    source = NvmlSource.open()
    if source is None:
        pytest.skip("NVML finds no GPU")
    reading = source.read()
    assert reading.sm_clock_mhz
    assert reading.temperature_c
    assert source.name
    assert source.driver
    assert reading.memory_clock_mhz
    assert source.compute_pids() is not None
