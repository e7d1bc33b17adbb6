"""Pooling ledgers of machines that never saw each other: every run once, and nothing that cannot be compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import invoke
from harness.errors import LedgerError, NoLedgerError, UsageError
from harness.ledger import LedgerWriter, read
from harness.ledger import merge as merging
from harness.ledger.merge import merge_ledgers

Make = Callable[..., Path]


@pytest.fixture
def node(tmp_path: Path) -> Make:
    """A ledger as one machine brings it: a run of two episodes, a probe's samples, a video."""

    def make(
        name: str, *, keys: str = "ab", outcome: str = "success", renderer: str = "egl", sha: str = "0" * 64
    ) -> Path:
        writer, run = LedgerWriter(tmp_path / name), f"run-{name}"
        protocol = json.dumps({"libero_spatial": {"mujoco": "3.3.2", "renderer": renderer}})
        state = {"run_id": run, "suite": "name: s", "protocol": protocol}
        writer.append("runs", [{**state, "status": "running"}])
        for key in keys:
            row: dict[str, Any] = {"run_id": run, "policy_id": "p", "nfe": 1, "episode_key": key, "attempt": 1}
            writer.append("decisions", [{**row, "decision": 0}])
            success = None if outcome == "error" else outcome == "success"
            told = {"outcome": outcome, "success": success, "decisions": 1, "checkpoint_sha256": sha}
            writer.append("episodes", [{**row, **told, "hardware": name}])
        samples = [{"run_id": run, "component": "e2e", "sample": i, "latency_ms": 1.0} for i in range(3)]
        writer.append("latency", samples)
        writer.append("runs", [{**state, "status": "finished"}])
        (tmp_path / name / "videos").mkdir()
        (tmp_path / name / "videos" / f"{run}.mp4").write_bytes(name.encode())
        return tmp_path / name

    return make


def test_rows_and_videos_of_every_machine_stand_in_one_ledger(node: Make, tmp_path: Path) -> None:
    a100, spark = node("a100"), node("spark", keys="cd")
    before = {path: path.read_bytes() for path in (*a100.rglob("*.*"), *spark.rglob("*.*")) if path.is_file()}
    assert invoke(["ledger", "merge", str(tmp_path / "fleet"), str(a100), str(spark)]) == 0
    fleet = read(tmp_path / "fleet")
    assert sorted(fleet.episodes["episode_key"]) == ["a", "b", "c", "d"]
    assert fleet.episodes["hardware"].value_counts().to_dict() == {"a100": 2, "spark": 2}
    assert (len(fleet.decisions), len(fleet.latency), fleet.notices) == (4, 6, ())
    assert fleet.runs["status"].tolist() == ["finished"] * 2
    assert sorted(path.name for path in (tmp_path / "fleet" / "videos").iterdir()) == ["run-a100.mp4", "run-spark.mp4"]
    assert {path: path.read_bytes() for path in before} == before, "what was merged is not changed"


def test_a_run_that_stands_in_several_ledgers_is_there_once(node: Make, tmp_path: Path) -> None:
    a100, spark = node("a100"), node("spark", keys="cd")
    early = tmp_path / "early"
    shutil.copytree(a100, early)
    for table in ("episodes", "decisions", "runs"):
        sorted((early / table).iterdir())[-1].unlink()
    merge_ledgers([a100, spark], tmp_path / "first")
    result = merge_ledgers([early, a100, tmp_path / "first", spark], tmp_path / "second")
    assert (result.runs, result.repeated) == (2, 2)
    first, second = read(tmp_path / "first", all_attempts=True), read(tmp_path / "second", all_attempts=True)
    assert len(second.episodes) == len(first.episodes) == 4
    assert len(second.latency) == len(first.latency) == 6
    assert len(second.decisions) == 4
    assert second.status == "finished"


def test_another_protocol_is_refused_by_key_with_both_values(node: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"renderer: 'egl' against 'osmesa'"):
        merge_ledgers([node("a"), node("b", renderer="osmesa")], tmp_path / "fleet")
    assert not (tmp_path / "fleet").exists()


def test_another_checkpoint_under_one_name_is_refused(node: Make, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"Policy 'p' has 2 different checkpoints .*weights"):
        merge_ledgers([node("a"), node("b", keys="cd", sha="1" * 64)], tmp_path / "fleet")


def test_an_episode_that_ended_differently_is_refused(node: Make, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"2 episodes ended differently"):
        merge_ledgers([node("a"), node("b", outcome="timeout")], tmp_path / "fleet")


def test_a_retry_elsewhere_after_an_error_is_one_episode(node: Make, tmp_path: Path) -> None:
    merge_ledgers([node("a", outcome="error"), node("b")], tmp_path / "fleet")
    assert read(tmp_path / "fleet").episodes["outcome"].tolist() == ["success"] * 2


def test_two_tellings_of_one_run_are_refused(node: Make, tmp_path: Path) -> None:
    a100 = node("a100")
    shutil.copytree(a100, tmp_path / "copy")
    for ledger, key in ((a100, "x"), (tmp_path / "copy", "y")):
        row = {
            "run_id": "run-a100",
            "policy_id": "p",
            "nfe": 1,
            "episode_key": key,
            "outcome": "success",
            "success": True,
        }
        LedgerWriter(ledger).append("episodes", [row])
    with pytest.raises(LedgerError, match=r"tell run 'run-a100' differently: 1 rows of its episodes"):
        merge_ledgers([a100, tmp_path / "copy"], tmp_path / "fleet")


def test_bad_names_are_refused_and_nothing_is_written(node: Make, tmp_path: Path) -> None:
    a100 = node("a100")
    with pytest.raises(UsageError, match="exists already"):
        merge_ledgers([a100], a100)
    with pytest.raises(UsageError, match="inside one another"):
        merge_ledgers([a100], a100 / "inside")
    with pytest.raises(NoLedgerError, match="no such directory"):
        merge_ledgers([a100, tmp_path / "nothing"], tmp_path / "fleet")
    assert not (a100 / "inside").exists()
    assert not (tmp_path / "fleet").exists()
    assert len(read(a100).episodes) == 2


def test_a_merge_that_was_stopped_leaves_nothing(node: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(LedgerWriter):
        def append(self, table: str, rows: Any) -> None:
            if table == "latency":
                raise KeyboardInterrupt
            super().append(table, rows)

    a100 = node("a100")
    monkeypatch.setattr(merging, "LedgerWriter", Stopped)
    with pytest.raises(KeyboardInterrupt):
        merge_ledgers([a100], tmp_path / "fleet")
    assert not (tmp_path / "fleet").exists()
    monkeypatch.undo()
    assert merge_ledgers([a100], tmp_path / "fleet").runs == 1
