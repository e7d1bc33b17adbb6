"""Which CPUs and GPUs an evaluation may take on a machine that trains. Reading is one thing, deciding another."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil

from harness.errors import NodeError, UsageError
from harness.latency.nvml import NvmlSource


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU and who computes on it."""

    index: int
    name: str
    memory_bytes: int
    free_bytes: int
    processes: tuple[int, ...]
    """Process ids that NVML says compute on it."""


@dataclass(frozen=True, slots=True)
class GpuChoice:
    """What an evaluation gets."""

    devices: str | None
    """Value of CUDA_VISIBLE_DEVICES: "" for no GPU; None when the machine has none and nothing need be said."""
    reason: str


def read_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs of this machine; none where NVML is not to be had."""
    system = psutil.virtual_memory()
    found = []
    for index, gpu in enumerate(NvmlSource.every()):
        # A GPU without memory of its own (GB10, Jetson) computes in the system's.
        memory, free = gpu.memory() or (system.total, system.available)
        found.append(Gpu(index, gpu.name or "NVIDIA GPU", memory, free, gpu.compute_pids() or ()))
    return tuple(found)


def choose_gpus(
    gpus: Sequence[Gpu], *, wanted: Sequence[int] | None, share: float | None, own: Collection[int] = ()
) -> GpuChoice:
    """Decide which GPUs an evaluation uses.

    Args:
        gpus: Those of the machine.
        wanted: Indices that were asked for; an empty list for none; None for any that nobody computes on.
        share: Fraction of a GPU's memory that policy servers may take beside somebody else; None refuses to share.
        own: Process ids of this evaluation.

    Raises:
        UsageError: A GPU that this machine does not have.
        NodeError: Every GPU that may be used is held by another process, and sharing was not asked for.
    """
    if wanted is not None and not wanted:
        return GpuChoice("", "no GPU, as asked")
    if not gpus:
        if wanted:
            raise UsageError(f"--gpu {','.join(map(str, wanted))}: this machine has no NVIDIA GPU; leave --gpu out.")
        return GpuChoice(None, "this machine has no NVIDIA GPU")
    by_index = {gpu.index: gpu for gpu in gpus}
    for index in wanted or ():
        if index not in by_index:
            raise UsageError(f"--gpu {index}: this machine has GPUs {', '.join(map(str, sorted(by_index)))}.")
    considered = [by_index[index] for index in wanted] if wanted else list(gpus)
    others = {gpu.index: sorted(set(gpu.processes) - set(own)) for gpu in considered}
    free = [gpu for gpu in considered if not others[gpu.index]]
    if free and (not wanted or len(free) == len(considered)):
        return GpuChoice(_listed(free), "nobody else computes there")
    if share is not None:
        chosen = considered if wanted else [max(considered, key=lambda gpu: gpu.free_bytes)]
        return _shared(chosen, others, share)
    held = "; ".join(f"GPU {index}: process {', '.join(map(str, pids))}" for index, pids in others.items() if pids)
    raise NodeError(
        f"Somebody else computes on the GPUs ({held}), a training run perhaps, which an evaluation could take out of "
        "memory. Name a free one with --gpu, share one with --share-gpu FRACTION, or use none with --gpu none."
    )


def _shared(chosen: Sequence[Gpu], others: dict[int, list[int]], share: float) -> GpuChoice:
    for gpu in chosen:
        if gpu.free_bytes < share * gpu.memory_bytes:
            raise NodeError(
                f"--share-gpu {share:g} asks for {share * gpu.memory_bytes / 2**30:.1f} GiB of GPU {gpu.index}, of "
                f"which {gpu.free_bytes / 2**30:.1f} GiB are free. Ask for less, or name another --gpu."
            )
    beside = sorted({pid for gpu in chosen for pid in others[gpu.index]})
    return GpuChoice(_listed(chosen), f"shared with process {', '.join(map(str, beside))}, {share:.0%} of its memory")


def _listed(gpus: Sequence[Gpu]) -> str:
    return ",".join(str(gpu.index) for gpu in gpus)


def parse_gpus(text: str | None) -> tuple[int, ...] | None:
    """Parse "none", "0" or "0,1"; None for no wish.

    Raises:
        UsageError: Anything else.
    """
    if text is None:
        return None
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--gpu is {text!r}; write none, or numbers such as 0 or 0,1.") from None


def parse_cpus(text: str | None) -> tuple[int, ...]:
    """Parse "0-3,6" into CPU numbers; empty for all.

    Raises:
        UsageError: No such list, or a CPU that this process may not use.
    """
    if text is None:
        return ()
    found: set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found.update(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        raise UsageError(f"--cpus is {text!r}; write numbers and ranges, e.g. 0-3,6.") from None
    allowed = os.sched_getaffinity(0)
    if not found or found - allowed:
        raise UsageError(f"--cpus {text}: this process may use CPUs {', '.join(map(str, sorted(allowed)))}.")
    return tuple(sorted(found))
