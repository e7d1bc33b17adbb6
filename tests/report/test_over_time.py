"""What moves over time on the page: learning curves of watched trainings, nights with their changes of level."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.series import Step
from harness.cli.app import invoke
from harness.gate.nights import Night, Series, SeriesKey
from harness.ledger import LedgerWriter
from harness.report.gate.history import nights_over_time
from harness.schedule.keys import episode_key
from harness.watch.backlog.journal import Event, Journal, Kind

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def write_checkpoint(ledger: Path, name: str, outcomes: str, night: int = 0) -> None:
    """Episodes of one policy: "+" success, "-" timeout."""
    writer = LedgerWriter(ledger)
    began = NOW + timedelta(days=night)
    writer.append(
        "episodes",
        [
            {
                "run_id": f"r{night}", "episode_key": episode_key("p", "stub", 0, place, 0), "suite": "stub",
                "task_id": 0, "task": "t", "init_state_id": place, "policy_id": name, "checkpoint_sha256": name,
                "attempt": 1, "outcome": "success" if letter == "+" else "timeout", "success": letter == "+",
                "steps": 9, "hardware": "cpu", "started_at": began,
            }
            for place, letter in enumerate(outcomes)
        ],
    )  # fmt: skip
    run = {
        "run_id": f"r{night}",
        "suite": "name: stub",
        "protocol": '{"stub": {"suite": "stub"}}',
        "status": "finished",
    }
    writer.append("runs", [run | {"started_at": began, "ended_at": began}])


def charts_of(page: Path) -> dict[str, Any]:
    found = re.search(r'id="page-data">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    charts: dict[str, Any] = json.loads(found.group(1))["charts"]
    return charts


def test_the_report_of_a_watch_shows_its_learning_curve(tmp_path: Path) -> None:
    ledger = tmp_path / "watched"
    journal = Journal(str(ledger))
    for step, outcomes in ((100, "+---"), (200, "+++-")):
        name = f"step-{step:06d}"
        write_checkpoint(ledger, name, outcomes)
        found = {"step": step, "lineage": 1, "place": f"/{step}", "digest": name, "written_ns": step}
        journal.append(Event(Kind.FOUND, name, found), NOW)
        journal.append(Event(Kind.EVALUATED, name, {"planned": 4, "errors": 0}), NOW)
    assert invoke(["report", str(ledger), "--html", str(tmp_path / "page.html"), "--quiet"]) == 0
    (line,) = charts_of(tmp_path / "page.html")["learning-curve"]["data"]
    assert (line["x"], line["y"]) == ([100, 200], [25, 75])
    assert "Best: step-000200 with 75 % of 4 episodes" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_report_of_a_night_shows_the_nights_before_it(tmp_path: Path) -> None:
    for night, outcomes in enumerate(("++++", "+++-", "++++")):
        write_checkpoint(tmp_path / "nights" / f"2026030{night}", "flow", outcomes, night)
    last, page = tmp_path / "nights" / "20260302", tmp_path / "page.html"
    assert invoke(["report", str(last), "--html", str(page), "--history", str(tmp_path / "nights"), "--quiet"]) == 0
    chart = charts_of(page)["nights0"]
    assert chart["data"][0]["y"] == [100, 75, 100]
    assert chart["layout"]["xaxis"]["ticktext"] == ["03-01", "03-02", "03-03"]
    assert "no change of level found" in page.read_text(encoding="utf-8")


def test_a_change_of_level_is_a_dashed_line_before_its_first_night() -> None:
    nights = tuple(
        Night(f"n{place}", NOW + timedelta(days=place), "c", 20 - 8 * (place > 3), 20, 0, 50.0, 100)
        for place in range(6)
    )
    key = SeriesKey(("stub",), "p", ("cpu",), "flow", 1)
    series = Series(key, nights, (Step(4, 1.0, 0.6, 0.01),), (), tuple(range(6)))
    (found,) = nights_over_time([series])
    success, latency = found.charts
    assert [(shape["x0"], shape["line"]["dash"]) for shape in success.layout["shapes"]] == [(3.5, "dash")]
    assert "Level changed: 100 → 60" in success.told
    assert latency.layout["shapes"] == []
    assert found.sentence == "6 nights, 1 change of level (dashed)."


def test_a_directory_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "one", "flow", "+-")
    code = invoke(
        ["report", str(tmp_path / "one"), "--html", str(tmp_path / "p.html"), "--history", str(tmp_path / "no")]
    )
    assert code == 64 or code == 3
    assert "There is no directory" in capsys.readouterr().err
