"""Samples of who was busy, and what the phases of a run took; with a session and servers that are told what to say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from harness.cluster.usage import WRITE_S, PhaseLog, UsageLog
from harness.ledger.schema import PHASES
from harness.schedule.usage import ServerUse


class SetTime:
    """A time source that stands until it is moved."""

    def __init__(self):  # noqa: D107
        self.at = 0.0

    def seconds(self):
        return self.at

    def now(self):
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.at)


class Session:
    """Answers are references themselves: a `ServerUse`, an error, or None for one that does not answer."""

    def __init__(self):  # noqa: D107
        self.ray = SimpleNamespace(wait=self.wait, get=self.get)
        self.answers = {}

    def ask_use(self):
        return {name: node for name, (node, _) in self.answers.items()}

    def wait(self, refs, num_returns, timeout):
        assert timeout == 0, "a sample must not wait"
        ready = [ref for ref in refs if self.answers[ref][1] is not None]
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref):
        answer = self.answers[ref][1]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def log():
    time, session, rows = SetTime(), Session(), []
    session.answers = {"a": ("n1", ServerUse("1", 0.0, 0.0, 0.5))}
    usage = UsageLog(
        session,
        SimpleNamespace(ask_use=session.ask_use),
        lambda table, new: rows.extend((table, row) for row in new),
        run_id="run",
        nodes={"n1": "box", "n2": "other"},
        time=time,
    )
    return SimpleNamespace(usage=usage, time=time, session=session, rows=rows)


WORKERS = {"worker-0": "n1", "worker-1": "n1", "worker-2": "n2"}


def test_a_sample_has_a_row_for_each_node(log):
    log.time.at = 1.0
    log.usage.sample(WORKERS, ["worker-1", "worker-2", "worker-gone"])
    log.usage.write()
    assert {table for table, _ in log.rows} == {"usage"}
    one, two = (row for _, row in log.rows)
    assert (one["node_id"], one["workers"], one["workers_busy"]) == ("box", 2, 1)
    assert (two["node_id"], two["workers"], two["workers_busy"]) == ("other", 1, 1)
    assert (one["server_busy"], one["gpu_busy"]) == (None, 0.5)
    assert (two["server_busy"], two["gpu_busy"]) == (None, None)


def test_the_share_of_a_server_is_of_the_time_since_the_row_before(log):
    for second, busy in ((1, 0.25), (2, 1.0), (3, 1.0)):
        log.time.at = float(second)
        log.session.answers["a"] = ("n1", ServerUse("1", float(second), busy))
        log.usage.sample(WORKERS, [])
    log.usage.write()
    assert [row["server_busy"] for _, row in log.rows if row["node_id"] == "box"] == [None, 0.75, 0.0]


def test_samples_are_a_second_apart_and_written_together(log):
    for quarter in range(int(4 * WRITE_S) + 1):
        log.time.at = quarter / 4
        log.usage.sample(WORKERS, [])
        if quarter == 4 * WRITE_S - 1:
            assert not log.rows
    assert len(log.rows) == 2 * WRITE_S


def test_a_server_that_is_silent_or_dead_leaves_a_gap_and_delays_nothing(log):
    log.session.answers = {"a": ("n1", None), "b": ("n1", RuntimeError("died"))}
    for second in range(1, 5):
        log.time.at = float(second)
        log.usage.sample(WORKERS, ["worker-0"])
    log.usage.write()
    box = [row for _, row in log.rows if row["node_id"] == "box"]
    assert len(box) == 2  # each sample waits a second longer for the silent one, no more
    assert {row["workers_busy"] for row in box} == {1}
    assert {row["server_busy"] for row in box} == {None}


def test_phases_follow_one_another_and_add_up():
    time = SetTime()
    phases = PhaseLog(time)
    for second, name in ((2.0, "ray"), (5.0, "rollouts")):
        time.at = second
        phases.enter(name)
    time.at = 9.0
    rows = phases.rows("run")
    assert [(row["phase"], row["seconds"]) for row in rows] == [(PHASES[0], 2.0), ("ray", 3.0), ("rollouts", 4.0)]
    assert {row["run_id"] for row in rows} == {"run"}
