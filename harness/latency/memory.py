"""Peak memory of a probed policy."""

from __future__ import annotations

import resource
import sys
from typing import Any

from harness.latency.spans import nothing, synchronizer
from harness.policies.base import Policy


def peak_memory_bytes(policy: Policy, rise_bytes: int | None = None) -> int:
    """Peak memory that this process has taken for the policy: on its CUDA device (torch's allocator), else resident.

    Args:
        policy: The policy that ran, for the device that it lies on.
        rise_bytes: On a module whose CPU and GPU share memory, the rise of the used memory since before the policy was
            built: the allocator's peak leaves out what the CPU side and the libraries hold.
    """
    if rise_bytes is not None:
        return rise_bytes
    torch: Any = sys.modules.get("torch")
    if torch is not None and synchronizer(policy) is not nothing:
        return int(torch.cuda.max_memory_allocated(torch.device(getattr(policy, "device", None) or "cuda")))
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
