"""Specification of how a probe notices that it is not alone on the accelerator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.errors import UsageError
from harness.latency.neighbours import Neighbour, family, foreign_processes, require_alone


class Device:
    """An accelerator on which these processes compute."""

    def __init__(self, *pids: int) -> None:  # noqa: D107
        self.pids = pids

    def compute_pids(self) -> tuple[int, ...] | None:
        return self.pids or None


def test_a_process_that_is_not_the_probe_s_is_found_and_named() -> None:
    found = foreign_processes(Device(os.getpid(), 1), own={os.getpid()})
    assert found is not None
    assert [neighbour.pid for neighbour in found] == [1]
    assert found[0].name != "?"


def test_a_process_of_another_container_is_foreign_though_its_number_means_nothing_here() -> None:
    assert foreign_processes(Device(2**22 + 7)) == (Neighbour(2**22 + 7, "?"),)


def test_the_probe_s_own_processes_are_not_foreign() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert foreign_processes(Device(os.getpid(), os.getppid())) == ()
        assert os.getpid() in family()
    finally:
        child.communicate(b"\n")


def test_a_device_that_does_not_tell_gives_no_answer() -> None:
    assert foreign_processes(Device()) is None
    assert foreign_processes(None) is None


def test_beside_another_process_nothing_is_measured_and_the_way_out_is_named() -> None:
    require_alone(())
    with pytest.raises(UsageError, match=r"in use by another process: 12 \(train\.py\).*--allow-shared"):
        require_alone([Neighbour(12, "train.py")])
