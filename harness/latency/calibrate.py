"""Ceilings of a device, measured in the process that measures the policy: copy bandwidth, matmul rate, launch cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
# A CPU without instructions for a number format multiplies it a thousand times slower than another CPU: each figure
# gets so long, and its work grows only as far as that allows.
LIMIT_S = 0.8
# All of them together; a number format that is not begun by then is left out.
TOTAL_S = 5.0
# Sides of the square products, tried in turn: a product of the last is no slower a FLOP than a larger one.
CUDA_SIDES = (1024, 2048, 4096, 8192)
CPU_SIDES = (128, 256, 512, 1024, 1536)
CUDA_FORMATS = ("bf16", "fp16", "tf32", "fp32", "int8", "fp8")
CPU_FORMATS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one device reaches, best of up to five; None is "not measured"."""

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
    matmul_by_format: Mapping[str, float] = field(default_factory=dict)
    """The same as `matmul_tflop_s` for each number format that the device multiplies: bf16, fp16, tf32, fp32, int8,
    fp8."""
    python_us: float | None = None
    """Host time for one call of an empty torch module, microseconds: how fast this host runs a policy's Python."""
    threads: int = 1
    """Threads of one operation."""
    notes: tuple[str, ...] = ()
    """For people: which products were stopped early or left out, and why."""


@dataclass(frozen=True, slots=True)
class _Pace:
    """How long each figure may take."""

    seconds: Callable[[], float]
    ends: float

    def share(self) -> float:
        """Seconds for the next figure; 0 when the time for all of them is over."""
        return max(0.0, min(LIMIT_S, self.ends - self.seconds()))


def calibrate(device: str | None, seconds: Callable[[], float]) -> Calibration:
    """Measure a device's ceilings. Takes `TOTAL_S` at most on any device, and twice the copied bytes of memory.

    Args:
        device: torch's name of it; None for CUDA if this process uses it, else the CPU. Without torch in the process
            the CPU is measured by numpy; torch is never imported for it.
        seconds: Stopwatch.
    """
    torch: Any = sys.modules.get("torch")
    pace = _Pace(seconds, seconds() + TOTAL_S)
    if torch is None:
        return _calibrate_numpy(pace)
    if device is None:
        device = "cuda" if torch.cuda.is_available() and torch.cuda.is_initialized() else "cpu"
    return _calibrate_torch(torch, torch.device(device), pace)


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


def _best(action: Callable[[], object], finish: Callable[[], object], pace: _Pace, calls: int = 1) -> float:
    """Least duration of one `action` over a few runs of `calls` back to back, seconds, after one that warms up.

    Waiting for a device costs some 10 µs, a twentieth of a copy on the fastest; back to back, it is shared. There is at
    least one run, and none begins when its time is over.
    """
    seconds, limit_s = pace.seconds, pace.share()
    began = seconds()
    action()
    finish()
    durations: list[float] = []
    while not durations or (len(durations) < REPEATS and seconds() - began < limit_s):
        durations.append(_duration(action, finish, seconds, calls))
    return min(durations)


def _duration(
    action: Callable[[], object], finish: Callable[[], object], seconds: Callable[[], float], calls: int
) -> float:
    start = seconds()
    for _ in range(calls):
        action()
    finish()
    return (seconds() - start) / calls


def matmul_rate(
    product_of: Callable[[int], Callable[[], object]],
    sides: Sequence[int],
    finish: Callable[[], object],
    seconds: Callable[[], float],
    calls: int = 1,
    limit_s: float = LIMIT_S,
) -> float:
    """Rate of square products, 1e12 FLOP a second, at the largest side for which there is time.

    Args:
        product_of: Side → the product to time.
        sides: Sides to try, ascending.
        finish: Waits for the device.
        seconds: Stopwatch.
        calls: Products back to back in one measurement.
        limit_s: No larger side is tried, and no measurement begun, that would go beyond so many seconds.
    """
    began = seconds()
    for side, larger in zip(sides, [*sides[1:], None], strict=True):
        product = product_of(side)
        product()
        finish()
        once = _duration(product, finish, seconds, 1)
        if larger is None or seconds() - began + once * (larger / side) ** 3 > limit_s:
            break
    durations = [once]
    while len(durations) <= REPEATS and seconds() - began < limit_s:
        durations.append(_duration(product, finish, seconds, calls))
    return 2 * side**3 / min(durations) / 1e12


def _nothing() -> None:
    return None


def _calibrate_numpy(pace: _Pace) -> Calibration:
    size = copy_bytes(last_cache_bytes(), psutil.virtual_memory().available) // 8
    source, target = np.ones(size), np.zeros(size)
    copy_s = _best(lambda: np.copyto(target, source), _nothing, pace)
    rng = np.random.default_rng(0)

    def product_of(side: int) -> Callable[[], object]:
        left = rng.standard_normal((side, side), dtype=np.float32)
        return lambda: left @ left

    rate = matmul_rate(product_of, CPU_SIDES, _nothing, pace.seconds, limit_s=pace.share())
    one = np.ones(1, dtype=np.float32)

    def many() -> None:
        for _ in range(10_000):
            np.add(one, one, out=one)

    with np.errstate(over="ignore"):
        launch_s = _best(many, _nothing, pace) / 10_000
    return Calibration("cpu", 2 * source.nbytes / copy_s / 1e9, rate, launch_s * 1e6, {"fp32": rate})


def _calibrate_torch(torch: Any, device: Any, pace: _Pace) -> Calibration:
    cuda = device.type == "cuda"
    finish = (lambda: torch.cuda.synchronize(device)) if cuda else _nothing
    with torch.inference_mode():
        copy_gb_s = _copy_torch(torch, device, finish, pace)
        one = torch.zeros(1, device=device)

        def many() -> None:
            for _ in range(5_000):
                one.add_(1.0)

        launch_s = _best(many, finish, pace) / 5_000
        python_s = _python_torch(torch, pace)
        notes: list[str] = []
        rates = dict(_matmuls(torch, device, finish, pace, notes))
    name = str(device) if device.index is not None or not cuda else f"cuda:{torch.cuda.current_device()}"
    usual = rates.get("bf16" if cuda else "fp32")
    threads = torch.get_num_threads()
    return Calibration(name, copy_gb_s, usual, launch_s * 1e6, rates, python_s * 1e6, threads, tuple(notes))


def _matmuls(
    torch: Any, device: Any, finish: Callable[[], object], pace: _Pace, notes: list[str]
) -> Iterator[tuple[str, float]]:
    """Number format → 1e12 FLOP a second, for what this device and this torch multiply; `notes` says what is amiss."""
    sides, calls = (CUDA_SIDES, 5) if device.type == "cuda" else (CPU_SIDES, 1)
    for name in CUDA_FORMATS if device.type == "cuda" else CPU_FORMATS:
        tried: list[int] = []

        def product_of(side: int, name: str = name, tried: list[int] = tried) -> Callable[[], object]:
            tried.append(side)
            return _product(torch, device, name, side)

        limit_s = pace.share()
        if not limit_s:
            notes.append(f"{name} products are left out: the ceilings before them took {TOTAL_S:g} s")
            continue
        try:
            with _tf32(torch, name == "tf32"):
                rate = matmul_rate(product_of, sides, finish, pace.seconds, calls, limit_s)
        except (RuntimeError, NotImplementedError, AttributeError):
            # An older device or torch refuses the format, or the memory is full: the rate stays unknown.
            continue
        if tried[-1] < sides[-1]:
            notes.append(
                f"{name} products crawl here, at {rate * 1e3:.3g} GFLOP/s: stopped at side {tried[-1]} of {sides[-1]}"
            )
        yield name, rate


@contextmanager
def _tf32(torch: Any, allowed: bool) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _product(torch: Any, device: Any, name: str, side: int) -> Callable[[], object]:
    """One square product in a number format.

    The numbers are random: zeros and ones cost a GPU less power, so that it would reach a rate that no model sees.
    """
    generator = torch.Generator(device).manual_seed(0)
    left = torch.randn(side, side, device=device, generator=generator)
    if name == "int8":
        whole = (left * 32).clamp(-127, 127).to(torch.int8)
        # Tensor cores want the right factor column by column.
        return lambda: torch._int_mm(whole, whole.t())
    if name == "fp8":
        small, scale = left.to(torch.float8_e4m3fn), torch.ones((), device=device)
        return lambda: torch._scaled_mm(small, small.t(), scale, scale, out_dtype=torch.bfloat16)
    factor = left.to({"bf16": torch.bfloat16, "fp16": torch.float16}.get(name, torch.float32))
    out = torch.empty_like(factor)
    return lambda: torch.mm(factor, factor, out=out)


def _python_torch(torch: Any, pace: _Pace) -> float:
    """Host seconds for one call of an empty module."""
    module, value = torch.nn.Identity(), torch.zeros(1)

    def many() -> None:
        for _ in range(5_000):
            module(value)

    return _best(many, _nothing, pace) / 5_000


def _copy_torch(torch: Any, device: Any, finish: Callable[[], object], pace: _Pace) -> float:
    calls = 1
    if device.type == "cuda":
        cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", None)
        free, calls = torch.cuda.mem_get_info(device)[0], 10
    else:
        cache, free = last_cache_bytes(), psutil.virtual_memory().available
    size = copy_bytes(cache, free)
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    moved = 2 * int(source.nbytes)
    return moved / _best(lambda: target.copy_(source), finish, pace, calls) / 1e9
