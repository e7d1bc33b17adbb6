"""The controller and what surrounds it, without Ray."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import UTC, datetime

import pytest
from stub_runs import make_unit

from harness.cluster.controller import Controller
from harness.cluster.drive import fatal_error
from harness.cluster.group import explain_end
from harness.cluster.ray_errors import reason_of
from harness.cluster.simulators import SimulatorCache
from harness.errors import LedgerError, NodeError, PolicyError
from harness.interrupts import Interrupts
from harness.ledger import read
from harness.rollout import WallTime
from harness.schedule.result import EpisodeResult
from harness.schedule.state import RunState
from harness.spec.observation import PolicyInfo
from harness.worlds.base import SimConfig
from harness.worlds.stub import StubSim, StubWorld

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def controller_of(out, n_units: int = 2) -> Controller:
    state = RunState(
        [make_unit(0, i) for i in range(n_units)], max_attempts=3, lease_limit_s=10.0, n_workers=1, started=NOW
    )
    return Controller(state, str(out), "run", {"p": PolicyInfo("p")}, WallTime())


def timeouts(lease) -> list[EpisodeResult]:
    return [EpisodeResult(item.unit, "timeout", NOW, item.attempt, wall_s=2.0) for item in lease.items]


def test_what_a_report_returns_from_is_on_disk_and_counted(tmp_path):
    controller = controller_of(tmp_path)
    lease = controller.lease("a")
    controller.report("a", lease.lease_id, timeouts(lease))
    assert read(tmp_path).episodes["episode_key"].tolist() == [lease.items[0].unit.episode_key]
    assert controller.snapshot().progress.done == 1


def test_a_report_that_comes_twice_is_written_once(tmp_path):
    controller = controller_of(tmp_path)
    lease = controller.lease("a")
    for _ in range(2):
        controller.report("a", lease.lease_id, timeouts(lease))
    assert len(read(tmp_path, all_attempts=True).episodes) == 1


def test_reports_that_come_while_another_is_written_are_one_part_and_each_waits_for_its_own(tmp_path):
    controller = controller_of(tmp_path, n_units=4)
    append, entered, go_on = controller._writer.append, threading.Event(), threading.Event()

    def slow_append(table, rows):
        entered.set()
        assert go_on.wait(30)
        append(table, rows)

    controller._writer.append = slow_append
    leases = [controller.lease(f"worker-{i}") for i in range(4)]
    seen: list[int] = []

    def report(i: int) -> None:
        controller.report(f"worker-{i}", leases[i].lease_id, timeouts(leases[i]))
        keys = read(tmp_path).episodes["episode_key"].tolist()
        seen.append(keys.count(leases[i].items[0].unit.episode_key))

    threads = [threading.Thread(target=report, args=(i,)) for i in range(4)]
    threads[0].start()
    assert entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 30
    while len(controller._waiting) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not seen
    assert controller.snapshot().progress.done == 0
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert seen == [1, 1, 1, 1]
    assert controller.snapshot().progress.done == 4
    assert len(list((tmp_path / "episodes").glob("*.parquet"))) == 2


def test_a_ledger_that_cannot_be_written_stops_the_run_with_its_reason(tmp_path):
    (tmp_path / "decisions").write_text("a file where the table should be")
    (tmp_path / "episodes").write_text("a file where the table should be")
    controller = controller_of(tmp_path)
    lease = controller.lease("a")
    controller.report("a", lease.lease_id, timeouts(lease))
    snapshot = controller.snapshot()
    assert snapshot.progress.done == 0
    assert not snapshot.finished
    assert controller.lease("a").stop
    error = fatal_error(*snapshot.aborted)
    assert isinstance(error, LedgerError)
    assert str(tmp_path) in str(error)


@pytest.mark.parametrize(
    ("error_type", "expected"),
    [("PolicyServerLost", PolicyError), ("LedgerError", LedgerError), ("NodeError", NodeError)],
)
def test_what_stops_a_run_is_raised_as_what_it_is(error_type, expected):
    assert type(fatal_error(error_type, "reason")) is expected


def test_a_warning_is_kept_once(tmp_path):
    controller = controller_of(tmp_path)
    for _ in range(3):
        controller.warn("no video")
    assert controller.snapshot().warnings == ("no video",)


def test_the_end_of_a_worker_is_told_in_one_line():
    from ray.exceptions import ActorUnschedulableError, RayTaskError

    assert explain_end(ActorUnschedulableError("node gone"))[0] == "NodeLost"
    cause = NodeError("no EGL here")
    wrapped = RayTaskError("work", "traceback", cause)
    assert explain_end(wrapped) == ("NodeError", "no EGL here")
    kind, message = explain_end(RayTaskError("work", "traceback", KeyError("task")))
    assert (kind, message) == ("WorkerDied", "The rollout worker raised KeyError: 'task'")


def test_what_a_worker_raised_when_it_was_made_is_told_not_that_it_died():
    died = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::RolloutWorker.__init__()\x1b[39m"
    )
    error = RuntimeError(f"{died} (pid=1)\n  File 'worker.py', line 9\nTypeError: no argument 'timing'.")
    assert reason_of(error) == "it could not begin: TypeError: no argument 'timing'"
    assert explain_end(error)[1].endswith("it could not begin: TypeError: no argument 'timing'")


def test_interrupts_are_counted_and_afterwards_raised_again():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.count == 2
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([signal.SIGUSR1], 1)


class ClosingSim(StubSim):
    """A stub simulator that remembers being closed."""

    closed = False

    def close(self):
        self.closed = True


class ClosingWorld(StubWorld):
    """Builds them."""

    def make(self, suite, task_id, config):
        return ClosingSim(suite, task_id, config)


def test_the_latest_simulators_are_kept_and_the_oldest_closed():
    cache, config = SimulatorCache(ClosingWorld(), WallTime(), capacity=2), SimConfig()
    zero, one = cache.get(("stub", 0), config), cache.get(("stub", 1), config)
    assert cache.get(("stub", 0), config) is zero
    cache.get(("stub", 2), config)
    assert (zero.closed, one.closed) == (False, True)
    assert cache.get(("stub", 0), SimConfig(cameras=("agentview",))) is not zero


def test_a_simulator_that_cannot_be_trusted_is_built_anew():
    cache, config = SimulatorCache(ClosingWorld(), WallTime()), SimConfig()
    first = cache.get(("stub", 0), config)
    cache.discard(("stub", 0), config)
    assert first.closed
    assert cache.get(("stub", 0), config) is not first


def test_a_video_that_is_sent_lies_in_the_ledger_and_nowhere_else(tmp_path):
    controller = controller_of(tmp_path / "led")
    controller.keep_video("videos/p/episode.mp4", b"frames")
    assert (tmp_path / "led" / "videos" / "p" / "episode.mp4").read_bytes() == b"frames"
    for path in ("../escaped.mp4", "videos/../../escaped.mp4", "/tmp/escaped.mp4", "episodes/part-0.parquet"):
        with pytest.raises(LedgerError, match="no path of a video"):
            controller.keep_video(path, b"frames")
    assert [file.name for file in tmp_path.rglob("*.mp4")] == ["episode.mp4"]
