"""How many CPU cores this process may use: CPU affinity (`taskset`, SLURM) and the quotas of its control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy at the same time, at least 1.

    The lesser of the CPUs that the scheduler lets it run on and of the least CPU quota of its control group and of the
    groups around it (containers, Kubernetes limits, SLURM, systemd); a quota of 2.5 cores keeps 2 busy.

    Args:
        root: Root of the file system, for /proc and /sys.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(allowed, cpu_quota(root) or allowed)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Least CPU quota that holds for this process, in cores; None where nothing limits it.

    Read from `cpu.max` (version 2 of control groups) and `cpu.cfs_quota_us` (version 1); see the kernel's
    admin-guide/cgroup-v2 and scheduler/sched-bwc.

    Args:
        root: Root of the file system.
    """
    return min((quota for folder in _groups(root) if (quota := _quota(folder)) is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups that this process is in, each with those around it."""
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A container often sees the host's path where its own group is mounted: then only the mount itself exists.
        for mount in (mounted / controllers, mounted / "cpu") if controllers else (mounted,):
            group = mount / path.strip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _quota(folder: Path) -> float | None:
    """Quota of one control group, in cores; None for none."""
    words = _read(folder / "cpu.max").split()
    if len(words) != 2:
        words = [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
    try:
        quota, period = map(int, words)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
