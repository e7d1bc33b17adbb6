"""The journal: what happened survives, in order, and a result counts once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import LedgerError
from harness.watch.backlog.journal import JOURNAL, CheckpointStatus, Event, Journal, Kind, State, fold

START = datetime(2026, 3, 1, tzinfo=UTC)


def found(name: str = "step-000001", step: int = 1) -> Event:
    data = {"step": step, "lineage": 1, "place": f"/{step}", "digest": f"d{step}", "written_ns": step}
    return Event(Kind.FOUND, name, data)


def test_events_come_back_in_order_from_another_process(tmp_path: Path) -> None:
    events = [found(), Event(Kind.CANCELLED, "step-000001", {"done": 3}), Event(Kind.EVALUATED, "step-000001", {})]
    journal = Journal(str(tmp_path))
    for seconds, event in enumerate(events):
        journal.append(event, START + timedelta(seconds=seconds))
    assert [(one.kind, one.name) for one in Journal(str(tmp_path)).read()] == [(one.kind, one.name) for one in events]
    assert fold(Journal(str(tmp_path)).read()) == fold(events)


def test_events_keep_their_order_though_the_clock_stands_still_or_is_put_back(tmp_path: Path) -> None:
    Journal(str(tmp_path)).append(found(), START)
    journal = Journal(str(tmp_path))
    journal.read()
    journal.append(Event(Kind.VANISHED, "step-000001"), START)
    journal.append(Event(Kind.RETURNED, "step-000001"), START - timedelta(hours=1))
    assert [one.kind for one in Journal(str(tmp_path)).read()] == [Kind.FOUND, Kind.VANISHED, Kind.RETURNED]


def test_a_result_counts_once_and_nothing_but_an_overwritten_checkpoint_takes_it_back() -> None:
    done = fold([found(), Event(Kind.EVALUATED, "step-000001", {"verdict": "PASS"})])
    for kind in (Kind.EVALUATED, Kind.FAILED, Kind.SKIPPED, Kind.CANCELLED, Kind.VANISHED, Kind.RETURNED):
        assert fold([Event(kind, "step-000001", {"verdict": "FAIL"})], done).entries == done.entries
    assert fold([Event(Kind.CHANGED, "step-000001")], done).entries["step-000001"].status is CheckpointStatus.CHANGED


def test_events_about_nobody_are_ignored() -> None:
    assert fold([Event(Kind.EVALUATED, "step-9")]) == State()


def test_two_watchers_that_found_one_checkpoint_found_it_once() -> None:
    assert len(fold([found(), found()]).entries) == 1


def test_a_watcher_killed_while_writing_leaves_nothing_that_stands_in_the_next_ones_way(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    journal.append(found(), START)
    (tmp_path / JOURNAL / ".20260301T000001.000000Z-evaluated-1.json.abc.tmp").write_text('{"kind": "eval')
    assert len(Journal(str(tmp_path)).read()) == 1


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format_version": 2, "kind": "found", "name": "x"})])
def test_a_damaged_event_is_named(tmp_path: Path, text: str) -> None:
    Journal(str(tmp_path)).append(found(), START)
    (tmp_path / JOURNAL / "20260301T000001.000000Z-found-1.json").write_text(text)
    with pytest.raises(LedgerError, match=r"found-1\.json.*no event"):
        Journal(str(tmp_path)).read()
