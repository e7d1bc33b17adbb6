"""Specification of how many cores a process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cores import cpu_quota, usable_cores


def system(root: Path, files: dict[str, str]) -> Path:
    """A file system that holds these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_affinity_limits_what_counts_as_a_core() -> None:
    """`taskset -c 0` on any machine leaves one core."""
    first = min(os.sched_getaffinity(0))
    code = "import os; from harness.cores import usable_cores\n"
    code += f"os.sched_setaffinity(0, {{{first}}}); print(usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        # The least of a group and of those around it holds.
        (
            {
                "proc/self/cgroup": "0::/slurm/job_7\n",
                "sys/fs/cgroup/slurm/job_7/cpu.max": "max 100000\n",
                "sys/fs/cgroup/slurm/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/cpu.max": "800000 100000\n",
            },
            4.0,
        ),
        # Version 1, in a container that sees the host's path though its own group is mounted at the top.
        (
            {
                "proc/self/cgroup": "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "4:cpuacct,cpu:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        # A quota on something that is no CPU controller is none.
        ({"proc/self/cgroup": "3:cpuset:/\n", "sys/fs/cgroup/cpuset/cpu.max": "100000 100000\n"}, None),
    ],
    ids=["no cgroups", "v2 unlimited", "v2", "v2 nested", "v1 container", "v1 nested", "cpuset alone"],
)
def test_quotas_of_control_groups_are_read_in_both_versions(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(system(tmp_path, files)) == quota


def test_the_lesser_of_affinity_and_quota_counts_and_never_less_than_one(tmp_path: Path) -> None:
    tight = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    wide = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99900000 100000\n"}
    assert usable_cores(system(tmp_path / "tight", tight)) == 1
    assert usable_cores(system(tmp_path / "wide", wide)) == len(os.sched_getaffinity(0))
