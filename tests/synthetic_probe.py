"""Ledgers of an invented policy on invented GPUs: every time follows from rates that are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from harness.ledger import LedgerWriter

START = datetime(2026, 1, 1, tzinfo=UTC)


class Gpu(NamedTuple):
    """What an invented GPU does."""

    hardware: str
    accelerator: str
    copy_gb_s: float
    bf16: float
    """1e12 FLOP a second."""


class Work(NamedTuple):
    """One call of a component."""

    gigaflop: float
    megabytes: float
    kernels: int
    host_ms: float
    """What the host takes to launch it."""


H100 = Gpu("h100-sxm-80gb", "NVIDIA H100 80GB HBM3", 3350 * 0.85, 989.4 * 0.75)
H200 = Gpu("h200", "NVIDIA H200", 4800 * 0.85, 989.4 * 0.75)
PARTS: Mapping[str, Work] = {
    "vision": Work(400, 800, 300, 0),
    "prefix": Work(3000, 4000, 600, 0),
    "denoise_step": Work(30, 1000, 800, 0),
}
HOST_MS = {"preprocess": 2.0, "postprocess": 0.5}
EFFICIENCY = 0.5


def busy_ms(work: Work, gpu: Gpu) -> float:
    """Device time of a call: half of the roofline's speed, and 3 µs a kernel."""
    ideal = max(work.gigaflop / gpu.bf16, work.megabytes / gpu.copy_gb_s)
    return ideal / EFFICIENCY + work.kernels * 3e-3


def wall_ms(work: Work, gpu: Gpu) -> float:
    """What the probe sees: the device waits for its host, or the host for it."""
    return max(busy_ms(work, gpu), work.host_ms)


def write_probe(
    path: Path,
    gpu: Gpu = H100,
    *,
    parts: Mapping[str, Work] = PARTS,
    nfes: Sequence[int] = (1, 10),
    policy: str = "lerobot:pi05?weights=random&dtype=bfloat16",
    compiled: str | None = None,
    counted: bool = True,
    run: str = "r",
) -> Path:
    """Write a probe's ledger: ten samples a configuration, all alike."""
    writer = LedgerWriter(path)
    key = {"run_id": run, "node_id": gpu.hardware, "hardware": gpu.hardware}
    place = {**key, "policy_id": policy, "dtype": "bfloat16", "compile": compiled, "batch_size": 1}
    writer.append("runs", [{"run_id": run, "suite": "name: probe", "protocol": "{}", "status": "finished"}])
    rates = {"bf16": gpu.bf16}
    calibration = {"copy_gb_s": gpu.copy_gb_s, "launch_us": 5.0, "matmul_by_format": rates, "matmul_tflop_s": gpu.bf16}
    writer.append("nodes", [{**key, "accelerator": gpu.accelerator, **calibration}])
    for nfe in nfes:
        writer.append("latency", list(_samples(place, nfe, gpu, parts, hidden=compiled is not None)))
        if counted:
            writer.append("counts", list(_counts(place, nfe, gpu, parts, hidden=compiled is not None)))
    return path


def e2e_ms(gpu: Gpu, parts: Mapping[str, Work], nfe: int) -> float:
    """A whole decision."""
    device = sum(wall_ms(work, gpu) * (nfe if name == "denoise_step" else 1) for name, work in parts.items())
    return sum(HOST_MS.values()) + device


def _samples(
    place: Mapping[str, Any], nfe: int, gpu: Gpu, parts: Mapping[str, Work], *, hidden: bool
) -> Iterator[dict[str, Any]]:
    for sample in range(10):
        row = {**place, "nfe": nfe, "started_at": START, "memory_bytes": 9 * 10**9}
        yield {**row, "component": "e2e", "sample": 2 * sample, "latency_ms": e2e_ms(gpu, parts, nfe)}
        if hidden:
            continue
        row["sample"] = 2 * sample + 1
        for name, ms in HOST_MS.items():
            yield {**row, "component": name, "latency_ms": ms}
        for name, work in parts.items():
            for _ in range(nfe if name == "denoise_step" else 1):
                yield {**row, "component": name, "latency_ms": wall_ms(work, gpu)}


def _counts(
    place: Mapping[str, Any], nfe: int, gpu: Gpu, parts: Mapping[str, Work], *, hidden: bool
) -> Iterator[dict[str, Any]]:
    calls = {name: nfe if name == "denoise_step" else 1 for name in parts}
    rows = {} if hidden else dict(parts)
    whole = [sum(getattr(work, field) * calls[name] for name, work in parts.items()) for field in Work._fields]
    busy = sum(busy_ms(work, gpu) * calls[name] for name, work in parts.items())
    for name, work in {"e2e": Work(whole[0], whole[1], int(whole[2]), whole[3]), **rows}.items():
        yield {
            **place,
            "nfe": nfe,
            "component": name,
            "calls": calls.get(name, 1),
            "flops": int(work.gigaflop * 1e9),
            "flops_by_format": {"bf16": work.gigaflop * 1e9},
            "parameter_bytes": int(work.megabytes * 1e6),
            "kv_bytes": 0,
            "activation_bytes": 0,
            "elementwise_bytes": 0,
            "operators": work.kernels,
            "kernels": work.kernels,
            "busy_ms": busy if name == "e2e" else busy_ms(work, gpu),
            "started_at": START,
        }
