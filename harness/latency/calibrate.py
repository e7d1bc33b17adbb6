"""Ceilings of a device, measured in the process that measures the policy: copy bandwidth, matmul rate, launch cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

# A copy is cold when what it reads and writes is four times what the last cache holds. 256 MB suffices where no cache
# is reported; more than 1 GB is not worth the time, even where a virtual machine shows the whole host's cache.
MIN_COPY_BYTES = 256 * 10**6
MAX_COPY_BYTES = 10**9
CACHE_MULTIPLE = 2
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one device reaches, best of five; None is "not measured"."""

    device: str
    """"cpu" or "cuda:N"."""
    copy_gb_s: float | None = None
    """Cold copy, bytes read plus bytes written, 1e9 bytes a second. On a CPU with every thread that torch uses
    (one with numpy)."""
    matmul_tflop_s: float | None = None
    """Dense square matmul, 1e12 FLOP a second; bfloat16 on CUDA, float32 on a CPU."""
    launch_us: float | None = None
    """Host time for one elementwise operation on one element, back to back, microseconds: what each kernel or operator
    costs before it computes anything."""


def calibrate(device: str | None, seconds: Callable[[], float]) -> Calibration:
    """Measure a device's ceilings. Takes a few seconds, and twice the copied bytes of memory.

    Args:
        device: torch's name of it; None for CUDA if this process uses it, else the CPU. Without torch in the process
            the CPU is measured by numpy; torch is never imported for it.
        seconds: Stopwatch.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return _calibrate_numpy(seconds)
    if device is None:
        device = "cuda" if torch.cuda.is_available() and torch.cuda.is_initialized() else "cpu"
    return _calibrate_torch(torch, torch.device(device), seconds)


def copy_bytes(cache_bytes: int | None, free_bytes: int) -> int:
    """Size of the array to copy: twice the cache, yet at most an eighth of the free memory (two such arrays exist)."""
    wanted = max(MIN_COPY_BYTES, CACHE_MULTIPLE * (cache_bytes or 0))
    return min(wanted, MAX_COPY_BYTES, free_bytes // 8)


def last_cache_bytes(root: Path = Path("/")) -> int | None:
    """Size of the CPU's largest cache as the kernel reports it; None where it does not."""
    sizes = []
    for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        scale = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
        digits = text.rstrip("KMG")
        if digits.isdigit():
            sizes.append(int(digits) * scale)
    return max(sizes, default=None)


def _best(action: Callable[[], object], finish: Callable[[], object], seconds: Callable[[], float]) -> float:
    """Least duration of `action` over a few runs, seconds, after one that warms up."""
    action()
    finish()
    durations = []
    for _ in range(REPEATS):
        start = seconds()
        action()
        finish()
        durations.append(seconds() - start)
    return min(durations)


def _nothing() -> None:
    return None


def _calibrate_numpy(seconds: Callable[[], float]) -> Calibration:
    size = copy_bytes(last_cache_bytes(), psutil.virtual_memory().available) // 8
    source, target = np.ones(size), np.zeros(size)
    copy_s = _best(lambda: np.copyto(target, source), _nothing, seconds)
    n = 1024
    left = np.ones((n, n), dtype=np.float32)
    matmul_s = _best(lambda: left @ left, _nothing, seconds)
    one = np.ones(1, dtype=np.float32)

    def many() -> None:
        for _ in range(10_000):
            np.add(one, one, out=one)

    with np.errstate(over="ignore"):
        launch_s = _best(many, _nothing, seconds) / 10_000
    return Calibration("cpu", 2 * source.nbytes / copy_s / 1e9, 2 * n**3 / matmul_s / 1e12, launch_s * 1e6)


def _calibrate_torch(torch: Any, device: Any, seconds: Callable[[], float]) -> Calibration:
    cuda = device.type == "cuda"
    finish = (lambda: torch.cuda.synchronize(device)) if cuda else _nothing
    with torch.inference_mode():
        copy_gb_s = _copy_torch(torch, device, finish, seconds)
        n, dtype = (8192, torch.bfloat16) if cuda else (1024, torch.float32)
        left = torch.ones(n, n, device=device, dtype=dtype)
        out = torch.empty_like(left)
        matmul_s = _best(lambda: torch.mm(left, left, out=out), finish, seconds)
        one = torch.zeros(1, device=device)

        def many() -> None:
            for _ in range(5_000):
                one.add_(1.0)

        launch_s = _best(many, finish, seconds) / 5_000
    name = str(device) if device.index is not None or not cuda else f"cuda:{torch.cuda.current_device()}"
    return Calibration(name, copy_gb_s, 2 * n**3 / matmul_s / 1e12, launch_s * 1e6)


def _copy_torch(torch: Any, device: Any, finish: Callable[[], object], seconds: Callable[[], float]) -> float:
    if device.type == "cuda":
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", None)
        free = torch.cuda.mem_get_info(device)[0]
    else:
        cache, free = last_cache_bytes(), psutil.virtual_memory().available
    size = copy_bytes(cache, free)
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    moved = 2 * int(source.nbytes)
    return moved / _best(lambda: target.copy_(source), finish, seconds) / 1e9
