"""What a run is expected to take, worked out in a thread while Ray starts; nothing of planning is imported before."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from threading import Thread
from typing import Any

from harness.time_source import TimeSource, WallTime


def begin(given: Mapping[str, Any]) -> Future[Mapping[str, Any]]:
    """Begin to plan a run that is about to start.

    Args:
        given: The arguments of `harness.cluster.run.run`: `suite` and `out`, and what else was given.

    Returns:
        A row of `plans` to be; whatever goes wrong is its status.
    """
    expected: Future[Mapping[str, Any]] = Future()
    Thread(target=_expect, args=(given, expected), name="plan", daemon=True).start()
    return expected


def _expect(given: Mapping[str, Any], expected: Future[Mapping[str, Any]]) -> None:
    from harness.cores import usable_cores
    from harness.latency.node import hardware_of_node
    from harness.planning.nodes_file import NodeKind, NodesFile
    from harness.planning.stored import expect_run, not_planned
    from harness.planning.suite_plan import changed_suite
    from harness.spec.profile import CPU_PROFILE

    time: TimeSource = given.get("clock") or WallTime()
    part = next((name for name in ("resume", "only", "only_clocks", "address") if given.get(name)), None)
    if part is not None:
        expected.set_result(not_planned(time, f"what a run with {part} is about is not known before it begins"))
        return
    try:
        suite = changed_suite(given["suite"], given.get("policies"), given.get("nfe"), None)
        hardware = hardware_of_node() or CPU_PROFILE
        kind = NodeKind(profile=hardware, cores=usable_cores(), gpus=int(hardware != CPU_PROFILE))
        nodes = NodesFile(nodes=(kind,))
        expected.set_result(expect_run(suite, str(given["out"]), nodes=nodes, workers=given.get("workers"), time=time))
    except Exception as error:
        # The run itself says what is wrong with what it was asked.
        expected.set_result(not_planned(time, f"{type(error).__name__}: {error}"))
