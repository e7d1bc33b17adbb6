"""How far an evaluation stays out of the way of what else a machine does. Applied inside workers and policy servers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Isolation:
    """Limits on the processes of a run. The default sets none."""

    nice: int = 0
    """Niceness of rollout workers and policy servers, 0 to 19."""
    cpus: tuple[int, ...] = ()
    """CPUs that they may use; empty for all. A node that has none of these numbers keeps all of its own."""
    gpu_memory_fraction: float | None = None
    """Share of a GPU's memory that each policy server may allocate; None for no limit."""

    def apply(self) -> None:
        """Limit the calling process. Refusals are ignored: less isolation is no reason to lose an episode."""
        for thread in _threads():
            if self.nice:
                # A process can always give way further, never less: what the cluster set stays where it is lower.
                with contextlib.suppress(OSError):
                    lowest = max(os.getpriority(os.PRIO_PROCESS, thread), self.nice)
                    os.setpriority(os.PRIO_PROCESS, thread, lowest)
            allowed = self._allowed(thread)
            if allowed:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(thread, allowed)

    def limit_gpu(self) -> None:
        """Let this process's torch allocate no more than its share of GPU memory, on every GPU that it sees."""
        if self.gpu_memory_fraction is None:
            return
        import torch

        for device in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(self.gpu_memory_fraction, device)

    def _allowed(self, thread: int) -> set[int]:
        if not self.cpus or not hasattr(os, "sched_setaffinity"):
            return set()
        with contextlib.suppress(OSError):
            return set(self.cpus) & os.sched_getaffinity(thread)
        return set()


NO_LIMITS = Isolation()


def _threads() -> Iterable[int]:
    """Thread ids of this process: Linux keeps niceness and affinity per thread."""
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]
