"""Peak memory of a probed policy."""

from __future__ import annotations

import resource
import sys
from typing import Any

from harness.latency.spans import nothing, synchronizer
from harness.policies.base import Policy


def peak_memory_bytes(policy: Policy) -> int:
    """Peak memory that this process has taken for the policy: on its CUDA device (torch's allocator), else resident.

    On modules that share memory between CPU and GPU the allocator's peak leaves out what the CPU side holds.
    """
    torch: Any = sys.modules.get("torch")
    if torch is not None and synchronizer(policy) is not nothing:
        return int(torch.cuda.max_memory_allocated(torch.device(getattr(policy, "device", None) or "cuda")))
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
