"""Sharing a machine with training: GPUs that somebody holds are refused unless told, CPUs are those that were named."""

from __future__ import annotations

import os

import pytest

from harness.cluster.isolation import Isolation
from harness.errors import NodeError, UsageError
from harness.watch.evaluation.machine import Gpu, GpuChoice, choose_gpus, parse_cpus, parse_gpus, read_gpus

GIB = 2**30


def gpu(index: int, *processes: int, free: int = 80) -> Gpu:
    return Gpu(index, "H100", 80 * GIB, free * GIB, processes)


def choose(*gpus: Gpu, wanted=None, share=None, own=()) -> GpuChoice:
    return choose_gpus(gpus, wanted=wanted, share=share, own=own)


def test_a_gpu_that_nobody_computes_on_is_taken() -> None:
    assert choose(gpu(0, 4711), gpu(1)).devices == "1"
    assert choose(gpu(0), gpu(1)).devices == "0,1"
    assert choose(gpu(0, 99), own=[99]).devices == "0", "one's own processes are nobody else"


@pytest.mark.parametrize("wanted", [None, (0,)])
def test_a_gpu_that_training_holds_is_refused_with_its_process(wanted) -> None:
    with pytest.raises(NodeError, match=r"GPU 0: process 4711.*--share-gpu"):
        choose(gpu(0, 4711), wanted=wanted)


def test_of_two_wanted_gpus_one_that_is_held_is_not_left_out_in_silence() -> None:
    with pytest.raises(NodeError, match="process 4711"):
        choose(gpu(0, 4711), gpu(1), wanted=(0, 1))


def test_a_gpu_is_shared_when_told_and_when_its_memory_has_room() -> None:
    choice = choose(gpu(0, 4711, free=20), gpu(1, 4712, free=40), share=0.4)
    assert (choice.devices, "process 4712" in choice.reason) == ("1", True)
    with pytest.raises(NodeError, match=r"32\.0 GiB of GPU 0, of which 20\.0 GiB"):
        choose(gpu(0, 4711, free=20), wanted=(0,), share=0.4)


def test_no_gpu_may_be_asked_for_and_a_machine_may_have_none() -> None:
    assert choose(gpu(0, 4711), wanted=()).devices == ""
    assert choose().devices is None
    with pytest.raises(UsageError, match="has no NVIDIA GPU"):
        choose(wanted=(0,))
    with pytest.raises(UsageError, match="has GPUs 0"):
        choose(gpu(0), wanted=(3,))


def test_reading_gpus_without_a_driver_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert read_gpus() == ()


def test_lists_are_parsed_and_nonsense_is_refused() -> None:
    assert parse_gpus(None) is None
    assert parse_gpus("none") == ()
    assert parse_gpus("0,2") == (0, 2)
    with pytest.raises(UsageError, match="first"):
        parse_gpus("first")
    first = min(os.sched_getaffinity(0))
    assert parse_cpus(None) == ()
    assert parse_cpus(f"{first}-{first}") == (first,)
    for wrong in ("x", "9999", "3-1"):
        with pytest.raises(UsageError, match="--cpus"):
            parse_cpus(wrong)


def test_a_process_gives_way_in_every_thread_and_never_takes_back_what_it_gave() -> None:
    script = (
        "import os, threading, time\n"
        "from harness.cluster.isolation import Isolation\n"
        "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
        "first = min(os.sched_getaffinity(0))\n"
        "Isolation(7, (first,)).apply(); Isolation(3, (first, 9999)).apply()\n"
        "threads = [int(name) for name in os.listdir('/proc/self/task')]\n"
        "print(len(threads) > 1, {os.getpriority(os.PRIO_PROCESS, one) for one in threads},"
        " {tuple(os.sched_getaffinity(one)) == (first,) for one in threads})"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True {7} {True}"


def test_no_limits_change_nothing() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)
    Isolation().apply()
    assert (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)) == before
