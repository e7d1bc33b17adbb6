"""What a device that is not at hand would reach: its printed peaks, scaled by how close a measured one comes to its."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from harness.analysis.latency.roofline import Rates
from harness.spec.profile import Figure, HardwareProfile

REACH_BANDWIDTH = 0.85
REACH_MATMUL = 0.75
"""Share of a printed peak that is assumed where no measured device tells: what a copy and a large product reach on an
H100 (2.9 of 3.35 TB/s, 728 of 989 TFLOP/s)."""

SPREADS: Mapping[str, float] = {"datasheet": 0.05, "measured": 0.05, "third_party": 0.10, "inferred": 0.35}
"""Relative uncertainty of a profile's figure by its confidence."""

STAND_INS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "bf16": (("fp16", 1.0),),
    "fp16": (("bf16", 1.0),),
    "tf32": (("bf16", 1 / 2), ("fp16", 1 / 2)),
    "fp32": (("bf16", 1 / 16), ("fp16", 1 / 16)),
    "int8": (("bf16", 1.0), ("fp16", 1.0)),
    "fp8": (("bf16", 1.0), ("fp16", 1.0)),
}
"""Format that a profile does not print → formats that stand in for it, with their ratio on NVIDIA's data-centre parts
(A100: bf16 312, TF32 156, fp32 19.5). Integers and fp8 without a printed rate are taken as converted to bf16."""


class Host(NamedTuple):
    """How long the target's host takes for what the source's does: the Python and the launches."""

    low: float
    likely: float
    high: float
    basis: str


HOSTS: Mapping[tuple[str, str], Host] = {
    ("gpu", "gpu"): Host(0.8, 1.0, 1.5, "hosts of GPU servers are taken as alike"),
    ("gpu", "soc"): Host(1.3, 2.0, 4.0, "an Arm module's host is assumed to take twice as long (1.3 to 4 times)"),
    ("soc", "gpu"): Host(0.25, 0.5, 0.8, "a server's host is assumed to take half as long (0.25 to 0.8)"),
    ("soc", "soc"): Host(0.6, 1.0, 1.7, "hosts of Arm modules are taken as alike"),
}
"""(source, target) kinds of profile → assumption about the host. None of it is measured: it is what the band is for."""
ANY_HOST = Host(0.5, 1.0, 2.0, "nothing is known of the host")


def given_host(ratio: float) -> Host:
    """A host of which the user knows how long it takes, to a tenth."""
    return Host(0.9 * ratio, ratio, 1.1 * ratio, f"its host takes {ratio:g} times as long, as was given")


class Target(NamedTuple):
    """A device as a prediction sees it."""

    name: str
    rates: Rates
    """What it is expected to reach; `launch_us` is never known."""
    memory_gb: float | None
    shared_memory: bool
    """Whether the memory is the CPU's too."""
    spread: float
    """Relative uncertainty of its rates."""
    host: Host
    notes: tuple[str, ...]
    """Figures that stand in for others."""


def target_device(
    profile: HardwareProfile,
    formats: tuple[str, ...],
    source: Rates | None = None,
    like: HardwareProfile | None = None,
    *,
    assumed: tuple[float, float] = (REACH_BANDWIDTH, REACH_MATMUL),
) -> Target:
    """Expect of a device what a measured one reaches of its printed peaks.

    Args:
        profile: Datasheet figures of the device.
        formats: Number formats that the policy multiplies in.
        source: Rates measured on another device; None where there is none.
        like: The profile of that other device; None where it has none.
        assumed: Share of the printed bandwidth and matmul rate where no measured device tells.
    """
    notes: list[str] = []
    spreads = [0.0]
    bandwidth = None
    if profile.bandwidth_gb_s is not None:
        spreads.append(SPREADS[profile.bandwidth_gb_s.confidence])
        reach = _reach(source.copy_gb_s if source else None, like.bandwidth_gb_s if like else None, assumed[0])
        bandwidth = profile.bandwidth_gb_s.value * reach
    rates: dict[str, float] = {}
    for name in formats:
        peak = _peak(profile, name, notes)
        if peak is None:
            continue
        measured = source.tflop_s.get(name) if source else None
        printed = _peak(like, name, []) if like is not None else None
        reach = measured / printed.value if measured and printed else assumed[1]
        rates[name] = peak.value * reach
        spreads.append(SPREADS[peak.confidence])
    host = HOSTS.get((like.kind if like is not None else "gpu", profile.kind), ANY_HOST)
    return Target(
        profile.name,
        Rates(bandwidth, rates, None),
        profile.memory_gb.value if profile.memory_gb else None,
        profile.kind == "soc",
        max(spreads),
        host,
        tuple(dict.fromkeys(notes)),
    )


def _reach(measured: float | None, printed: Figure | None, assumed: float) -> float:
    return measured / printed.value if measured and printed is not None else assumed


def _peak(profile: HardwareProfile, name: str, notes: list[str]) -> Figure | None:
    """Printed peak of a format, or what stands in for it."""
    stated: Mapping[str, Figure] = {str(key): value for key, value in profile.tflops.items()}
    if name in stated:
        return stated[name]
    for other, ratio in STAND_INS.get(name, ()):
        if other in stated:
            value = stated[other].value * ratio
            notes.append(f"{profile.name} prints no {name} rate; {other} × {ratio:.3g} is used")
            return Figure(value=value, source=f"{other} rate × {ratio:.3g}", confidence="inferred")
    return None


def fits(memory_bytes: float | None, target: Target) -> bool | None:
    """Whether so many bytes fit: nine tenths of a card's memory, or all but 1.5 GB of memory that the system shares.

    None where either is unknown.
    """
    if memory_bytes is None or target.memory_gb is None or not math.isfinite(memory_bytes):
        return None
    free = target.memory_gb - 1.5 if target.shared_memory else 0.9 * target.memory_gb
    return memory_bytes / 1e9 <= free
