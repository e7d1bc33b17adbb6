"""Compacting a ledger: one part a table, and every reader sees what it saw before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.cli.app import invoke
from harness.errors import UsageError
from harness.ledger import LedgerWriter, read
from harness.ledger.compact import compact_ledger


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A ledger of many parts: an episode tried twice, decisions of a crashed attempt, a video."""
    writer = LedgerWriter(tmp_path / "night")
    writer.append("runs", [{"run_id": "r", "suite": "name: s", "protocol": "{}", "status": "running"}])
    episode = {"run_id": "r", "policy_id": "p", "nfe": 1, "decisions": 1}
    for key, outcome, attempt in (("a", "error", 1), ("a", "success", 2), ("b", "timeout", 1)):
        writer.append("decisions", [{**_decision(key), "attempt": attempt}])
        success = {"success": True, "timeout": False}.get(outcome)
        row = {**episode, "episode_key": key, "outcome": outcome, "success": success, "attempt": attempt}
        writer.append("episodes", [row])
    writer.append("decisions", [_decision("crashed")])
    writer.append("runs", [{"run_id": "r", "suite": "name: s", "protocol": "{}", "status": "finished"}])
    (tmp_path / "night" / "videos").mkdir()
    (tmp_path / "night" / "videos" / "0.mp4").write_bytes(b"film")
    return tmp_path / "night"


def _decision(key: str) -> dict[str, object]:
    return {"run_id": "r", "policy_id": "p", "nfe": 1, "episode_key": key, "decision": 0}


@pytest.mark.parametrize("all_attempts", [False, True])
def test_readers_see_the_same(night: Path, tmp_path: Path, all_attempts: bool) -> None:
    compact_ledger(night, tmp_path / "compact")
    before, after = (read(path, all_attempts=all_attempts) for path in (night, tmp_path / "compact"))
    pd.testing.assert_frame_equal(after.episodes, before.episodes)
    assert len(after.episodes) == (3 if all_attempts else 2)
    kept = before.decisions[before.decisions["episode_key"] != "crashed"].reset_index(drop=True)
    pd.testing.assert_frame_equal(after.decisions, kept)
    assert after.runs["status"].tolist() == ["finished"]


def test_one_part_a_table_and_the_video_beside_them(night: Path, tmp_path: Path) -> None:
    assert invoke(["ledger", "compact", str(night), str(tmp_path / "compact")]) == 0
    parts = [path.parent.name for path in sorted((tmp_path / "compact").rglob("*.parquet"))]
    assert parts == ["decisions", "episodes", "runs"]
    assert (tmp_path / "compact" / "videos" / "0.mp4").read_bytes() == b"film"
    assert len(list(night.rglob("*.parquet"))) == 9, "the source is not changed"


def test_a_ledger_at_the_destination_is_left_alone(night: Path, tmp_path: Path) -> None:
    compact_ledger(night, tmp_path / "compact")
    with pytest.raises(UsageError, match="holds a ledger already"):
        compact_ledger(night, tmp_path / "compact")


def test_a_ledger_of_a_probe_has_no_episodes(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path / "probe")
    writer.append("runs", [{"run_id": "r", "suite": "name: s", "protocol": "{}", "status": "finished"}])
    for sample in range(3):
        writer.append("latency", [{"run_id": "r", "component": "e2e", "sample": sample, "latency_ms": 1.0}])
    assert compact_ledger(tmp_path / "probe", tmp_path / "compact")["latency"] == 3
    assert len(read(tmp_path / "compact").latency) == 3
