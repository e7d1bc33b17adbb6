"""Plans that runs store of themselves: every status is counted, and what is compared is the run's own time."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import invoke
from harness.ledger import Ledger, LedgerWriter
from harness.planning.nodes_file import NodeKind, NodesFile
from harness.planning.scoring import FAILED, NO_DATA, PLANNED
from harness.planning.stored import UNPLANNED, expect_run, score_stored
from harness.planning.suite_plan import changed_suite
from harness.time_source import WallTime

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
START = datetime(2026, 1, 1, tzinfo=UTC)
HERE = NodesFile(nodes=(NodeKind(profile="cpu", cores=2),))


def write_run(folder: Path, name: str, plan: dict[str, Any] | None, *, ended: bool = True) -> str:
    """A run of one episode that takes 100 s."""
    writer = LedgerWriter(folder / name)
    row = {"run_id": name, "suite": "name: s", "protocol": "{}", "started_at": START}
    told = {"status": "finished", "ended_at": START + timedelta(seconds=100)} if ended else {"status": "running"}
    writer.append("runs", [{**row, **told}])
    episode = {"run_id": name, "episode_key": "k", "suite": "s", "task_id": 0, "init_state_id": 0, "trial": 0}
    played = {"policy_id": "p", "outcome": "success", "success": True, "steps": 10, "decisions": 1, "attempt": 1}
    writer.append("episodes", [{**episode, **played, "wall_s": 90.0, "started_at": START + timedelta(seconds=5)}])
    if plan is not None:
        writer.append("plans", [{"run_id": name, "made_at": START, "band": 0.9, **plan}])
    return str(folder / name)


def test_plans_are_counted_by_status_so_that_no_run_vanishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = {"status": PLANNED, "finish_s": 80.0, "low_s": 60.0, "high_s": 120.0}
    paths = [
        write_run(tmp_path, "inside", planned),
        write_run(tmp_path, "outside", {**planned, "finish_s": 50.0, "high_s": 70.0}),
        write_run(tmp_path, "unended", planned, ended=False),
        write_run(tmp_path, "bare", {"status": NO_DATA, "inputs": json.dumps({"why": "nothing beside it"})}),
        write_run(tmp_path, "broken", {"status": FAILED, "inputs": json.dumps({"why": "KeyError"})}),
        write_run(tmp_path, "old", None),
    ]
    score = score_stored(paths)
    assert score.statuses == {PLANNED: 3, NO_DATA: 1, FAILED: 1, UNPLANNED: 1}
    assert score.n == 2
    assert score.mape == pytest.approx((0.2 + 0.5) / 2)
    assert score.coverage == 0.5
    assert invoke(["plan", "--score", *paths]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "35.0 %" in said
    for status in (NO_DATA, FAILED, UNPLANNED):
        assert status in said


def test_a_run_without_ledgers_beside_it_stores_no_data_and_why(tmp_path: Path) -> None:
    suite = changed_suite("seed", ["scripted"], None, None)
    row = expect_run(suite, str(tmp_path / "mine"), nodes=HERE, workers=2, time=WallTime())
    assert row["status"] == NO_DATA
    assert "Calibrate first" in json.loads(row["inputs"])["why"]


def test_a_run_beside_another_stores_what_it_expects_within_its_second(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "planning" / "scripted-w2", tmp_path / "earlier")
    suite = changed_suite("seed", ["scripted"], None, None)
    row = expect_run(suite, str(tmp_path / "mine"), nodes=HERE, workers=2, time=WallTime())
    took = Ledger(EXAMPLES / "planning" / "scripted-w2").runs.iloc[-1]
    wall_s = (took["ended_at"] - took["started_at"]).total_seconds()
    assert row["status"] == PLANNED
    assert row["episodes"] == 20
    assert row["low_s"] < wall_s < row["high_s"]
    assert row["finish_s"] == pytest.approx(wall_s, rel=0.35)
