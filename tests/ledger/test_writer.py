"""Appending: whole parts, checked rows, one owner per directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from harness.errors import LedgerError, UsageError
from harness.ledger import SCHEMA_VERSION, TABLES, LedgerWriter, read
from harness.ledger.storage import Location

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def episode(**changes: Any) -> dict[str, Any]:
    row = {
        "run_id": "r1",
        "episode_key": "a" * 64,
        "policy_id": "scripted",
        "nfe": None,
        "outcome": "success",
        "success": True,
        "steps": 131,
        "started_at": START,
    }
    return {**row, **changes}


def run_row(suite: str = "name: spatial\n", sha: str = "p1", **changes: Any) -> dict[str, Any]:
    row = {"run_id": "r1", "suite": suite, "protocol": "{}", "protocol_sha256": sha, "status": "running"}
    return {**row, **changes}


def test_a_row_comes_back_as_it_was_written(tmp_path: Path) -> None:
    row = episode(nfe=10, policy_wait_s=1.25, trial=np.int32(3), task="pick up the <bowl> & the „cup“")
    part = LedgerWriter(tmp_path).append("episodes", [row])

    table = pq.read_table(tmp_path / str(part))

    assert table.schema.equals(TABLES["episodes"])
    assert table.to_pylist() == [{**dict.fromkeys(TABLES["episodes"].names), **row}]


def test_parts_state_the_schema_version_and_the_writer_and_are_compressed(tmp_path: Path) -> None:
    part = pq.ParquetFile(tmp_path / str(LedgerWriter(tmp_path).append("episodes", [episode()])))

    assert part.schema_arrow.metadata[b"vla_harness.schema_version"] == str(SCHEMA_VERSION).encode()
    assert part.schema_arrow.metadata[b"vla_harness.version"]
    assert part.metadata.row_group(0).column(0).compression == "ZSTD"


def test_no_rows_write_nothing(tmp_path: Path) -> None:
    assert LedgerWriter(tmp_path / "new").append("episodes", []) is None
    assert not (tmp_path / "new").exists()


def test_parts_are_named_by_the_time_given_and_never_collide(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, now=lambda: START)
    names = {writer.append("episodes", [episode()]) for _ in range(20)}

    assert len(names) == 20
    assert all(str(name).startswith("episodes/part-20260301T120000.000000Z-") for name in names)


def test_an_arrow_table_is_appended_with_absent_columns_null(tmp_path: Path) -> None:
    samples = pa.table({"component": ["e2e", "e2e"], "latency_ms": [1.5, 2.5], "sample": pa.array([0, 1], pa.int32())})
    LedgerWriter(tmp_path).append("latency", samples)

    latency = read(tmp_path).latency
    assert latency["latency_ms"].tolist() == [1.5, 2.5]
    assert latency["power_w"].isna().all()


@pytest.mark.parametrize(
    ("table", "row", "words"),
    [
        ("episodes", {**episode(), "sucess": True}, ["episodes", "sucess", "success"]),
        ("episodes", episode(steps=1.5), ["episodes", "steps", "1.5", "int32"]),
        ("episodes", episode(steps=True), ["steps", "True"]),
        ("episodes", episode(steps=2**40), ["steps", str(2**40)]),
        ("episodes", episode(task=7), ["task", "7", "string"]),
        ("episodes", episode(wall_s="3"), ["wall_s", "'3'"]),
        ("episodes", episode(started_at=datetime(2026, 1, 1)), ["started_at", "time zone"]),
        ("episodes", episode(episode_key=None), ["episode_key"]),
        ("nodes", {"run_id": "r", "versions": {"torch": 2}}, ["nodes", "versions", "torch"]),
        ("latency", {"component": "denoise", "latency_ms": 1.0}, ["component", "denoise", "denoise_step"]),
        ("latency", {"component": "e2e", "latency_ms": float("nan")}, ["latency_ms", "nan"]),
        ("episode", {}, ["episode", "episodes"]),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, table: str, row: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(LedgerError) as refused:
        LedgerWriter(tmp_path).append(table, [row])
    assert all(word in str(refused.value) for word in words), refused.value
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("outcome", "success"),
    [("success", False), ("success", None), ("timeout", True), ("timeout", None), ("error", False), ("failed", False)],
)
def test_an_outcome_that_contradicts_success_is_refused(tmp_path: Path, outcome: str, success: bool | None) -> None:
    with pytest.raises(LedgerError, match=outcome):
        LedgerWriter(tmp_path).append("episodes", [episode(outcome=outcome, success=success)])


def test_a_writer_killed_in_the_middle_leaves_what_it_reported_and_nothing_else(tmp_path: Path) -> None:
    script = f"""
import os
from harness.ledger import LedgerWriter
writer = LedgerWriter({str(tmp_path)!r})
row = dict(episode_key="k", outcome="timeout", success=False)
writer.append("episodes", [row])
print("reported", flush=True)
real = os.rename
os.rename = lambda *names: os.kill(os.getpid(), 9)
writer.append("episodes", [row | dict(episode_key="lost")])
"""
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert child.returncode == -9
    assert child.stdout == "reported\n"
    assert len(list((tmp_path / "episodes").iterdir())) == 2, "the second part was under way"
    assert read(tmp_path).episodes["episode_key"].tolist() == ["k"]


def test_what_was_appended_outlives_a_loss_of_power_with_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    part = tmp_path / "new" / str(LedgerWriter(tmp_path / "new").append("episodes", [episode()]))
    folders = [part.parent, part.parent.parent, tmp_path]
    assert {path.stat().st_ino for path in (part, *folders)} <= set(synced)
    assert synced.index(part.stat().st_ino) < len(synced) - 1 - synced[::-1].index(part.parent.stat().st_ino)


def test_claim_creates_a_missing_directory_with_its_parents(tmp_path: Path) -> None:
    LedgerWriter(tmp_path / "a" / "b").claim("name: s", "{}", "p")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_claim_leaves_unrelated_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    LedgerWriter(tmp_path).claim("name: s", "{}", "p")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_claim_of_a_present_ledger_asks_for_resume(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.append("runs", [run_row()])
    with pytest.raises(UsageError, match=r"--resume.*--out"):
        writer.claim("name: spatial\n", "{}", "p1")


def test_resume_goes_on_with_the_same_suite_whatever_its_comments(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.append("runs", [run_row()])
    writer.claim("# a comment\nname:   spatial", "{}", "p1", resume=True)


def test_a_second_policy_joins_the_first_in_its_ledger(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.append("runs", [run_row()])
    writer.claim("{name: spatial, policies: [flow], video: all, nfe: [1]}", "{}", "p1", resume=True)


def test_other_tasks_under_the_same_name_are_refused(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.append("runs", [run_row()])
    with pytest.raises(LedgerError, match="differ in: tasks"):
        writer.claim("{name: spatial, tasks: [{suite: libero_goal}]}", "{}", "p1", resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_ledger_of_another_suite_is_refused_naming_both(tmp_path: Path, resume: bool) -> None:
    writer = LedgerWriter(tmp_path)
    writer.append("runs", [run_row()])
    with pytest.raises(LedgerError, match=r"'spatial'.*'goal'"):
        writer.claim("name: goal", "{}", "p1", resume=resume)


def test_a_ledger_of_another_protocol_is_refused_naming_key_and_values(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.append("runs", [run_row(protocol=json.dumps({"libero_goal": {"max_steps": 300, "settle": 10}}))])
    wanted = json.dumps({"libero_goal": {"max_steps": 220, "settle": 10}})
    with pytest.raises(LedgerError, match=r"libero_goal\.max_steps: 300 against 220"):
        writer.claim("name: spatial\n", wanted, "p2", resume=True)


def test_rows_that_no_run_owns_are_not_resumed(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    writer.append("episodes", [episode()])
    with pytest.raises(LedgerError, match="nobody knows which suite"):
        writer.claim("name: spatial", "{}", "p1", resume=True)


def test_a_file_in_the_way_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(LedgerError, match=r"out/run.*--out"):
        LedgerWriter(tmp_path / "out" / "run").claim("name: s", "{}", "p")


def test_a_place_that_cannot_be_written_is_named_with_the_remedy() -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc, where no directory can be made")
    with pytest.raises(LedgerError, match=r"/proc/ledger.*--out"):
        LedgerWriter("/proc/ledger").claim("name: s", "{}", "p")


def test_a_full_disk_is_named_with_the_remedy_and_leaves_no_half_part(tmp_path: Path) -> None:
    script = f"""
from harness.errors import LedgerError
from harness.ledger import LedgerWriter
mine = {str(tmp_path)!r}
for claim in (True, False):
    try:
        writer = LedgerWriter(mine)
        if claim:
            writer.claim("name: s", "{{}}", "p")
        else:
            rows = [dict(episode_key=os.urandom(32).hex(), outcome="timeout", success=False) for _ in range(20000)]
            writer.append("episodes", rows)
    except LedgerError as error:
        print(error)
print(sum(1 for _ in __import__("pathlib").Path(mine).rglob("*part-*")))
"""
    command = (
        f"mount -t tmpfs -o size=256k tmpfs {tmp_path} && exec {sys.executable} -c 'import os; exec(os.environ[\"S\"])'"
    )
    child = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "S": script, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if "mount" in child.stderr or "unshare" in child.stderr:
        pytest.skip(f"no private mounts here: {child.stderr.strip()}")
    too_little, full, parts = child.stdout.splitlines()
    assert "are free under" in too_little
    assert str(tmp_path) in too_little
    assert "The disk is full" in full
    assert str(tmp_path) in full
    assert parts == "0"


def test_a_uri_is_a_ledger_too(tmp_path: Path) -> None:
    LedgerWriter(f"file://{tmp_path}/x").append("episodes", [episode()])
    assert len(read(f"file://{tmp_path}/x").episodes) == 1
    assert len(read(tmp_path / "x").episodes) == 1


def test_a_file_system_without_os_calls_gets_whole_parts_too() -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    writer = LedgerWriter("/bucket/run", filesystem=pafs.PyFileSystem(pafs.FSSpecHandler(memory)))
    writer.claim("name: s", "{}", "p")
    part = writer.append("episodes", [episode()])
    assert memory.ls("/bucket/run/episodes", detail=False) == [f"/bucket/run/{part}"]


def test_an_unknown_uri_scheme_is_refused_by_name() -> None:
    with pytest.raises(LedgerError, match="ftp://host/x"):
        LedgerWriter("ftp://host/x")


@pytest.mark.parametrize(
    ("path", "folder"),
    [("reports/seed=3/run", "seed=3"), ("s3://bucket/suite=object", "suite=object"), ("reports/night", None)],
)
def test_folders_that_readers_take_for_columns_are_warned_of(path: str, folder: str | None) -> None:
    location = Location.of(path, pafs.LocalFileSystem())
    assert (location.partition_warning is None) == (folder is None)
    assert folder is None or repr(folder) in str(location.partition_warning)


def test_a_claimed_ledger_that_was_removed_is_not_begun_again_in_silence(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path / "led")
    writer.claim("name: s", "{}", "p")
    writer.append("usage", [{"run_id": "r"}])
    shutil.rmtree(tmp_path / "led")
    for other in (writer, LedgerWriter(tmp_path / "led", claimed=True)):
        with pytest.raises(LedgerError, match="was removed while a run wrote to it"):
            other.append("phases", [{"run_id": "r"}])
    assert not (tmp_path / "led").exists()
