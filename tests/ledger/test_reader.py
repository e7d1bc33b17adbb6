"""Reading: nothing skipped in silence, retries counted once, ledgers merged only when they belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.analysis.paired.compare import compare
from harness.analysis.paired.pairing import last_status, read_sides
from harness.errors import LedgerError, UsageError
from harness.ledger import LedgerWriter, finished_identities, open_ledger, parts, read
from harness.ledger.schema import TABLES
from harness.spec.identity import PolicyIdentity

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def episode(key: str, outcome: str = "success", *, minute: int = 0, **changes: Any) -> dict[str, Any]:
    row = {
        "run_id": "r1",
        "episode_key": key,
        "policy_id": "flow",
        "nfe": 1,
        "outcome": outcome,
        "success": None if outcome == "error" else outcome == "success",
        "attempt": 0,
        "started_at": START + timedelta(minutes=minute),
    }
    return {**row, **changes}


def write(path: Path, table: str, *rows: Mapping[str, Any]) -> str:
    return str(path / str(LedgerWriter(path).append(table, rows)))


def test_the_last_attempt_counts_and_all_can_be_seen(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a", "error", attempt=0), episode("b", "timeout"))
    write(tmp_path, "episodes", episode("a", "success", attempt=1, minute=5))

    assert read(tmp_path).episodes[["episode_key", "outcome"]].to_numpy().tolist() == [
        ["b", "timeout"],
        ["a", "success"],
    ]
    assert len(read(tmp_path, all_attempts=True).episodes) == 3


def test_an_error_never_replaces_a_measured_outcome(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a", "timeout", attempt=0))
    write(tmp_path, "episodes", episode("a", "error", attempt=1, minute=5))
    assert read(tmp_path).episodes["outcome"].tolist() == ["timeout"]


def test_policies_and_nfe_are_different_episodes(tmp_path: Path) -> None:
    write(tmp_path, "episodes", *(episode("a", nfe=nfe) for nfe in (1, 10, None)), episode("a", policy_id="noop"))
    assert len(read(tmp_path).episodes) == 4


def test_nulls_stay_nulls(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a", "error", nfe=None), episode("b", nfe=10))
    episodes = read(tmp_path).episodes
    assert str(episodes["nfe"].dtype) == "Int32"
    assert str(episodes["success"].dtype) == "boolean"
    assert episodes["success"].isna().tolist() == [True, False]
    assert episodes["nfe"].tolist() == [pd.NA, 10]


def test_a_run_is_its_last_state_and_versions_are_a_mapping(tmp_path: Path) -> None:
    write(tmp_path, "runs", {"run_id": "r1", "status": "running", "versions": {"torch": "2.11"}})
    write(tmp_path, "runs", {"run_id": "r1", "status": "finished", "versions": {"torch": "2.11"}})
    runs = read(tmp_path).runs
    assert runs["status"].tolist() == ["finished"]
    assert runs["versions"][0] == {"torch": "2.11"}


def test_tables_that_were_never_written_are_empty_frames_with_their_columns(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a"))
    latency = read(tmp_path).latency
    assert len(latency) == 0
    assert list(latency.columns) == TABLES["latency"].names


def test_finished_episodes_need_not_run_again_but_errors_do(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a"), episode("b", "timeout", nfe=None), episode("c", "error"))
    assert finished_identities(tmp_path) == {
        ("flow", 1, "a", "synchronous", None),
        ("flow", None, "b", "synchronous", None),
    }
    assert finished_identities(tmp_path / "nothing") == set()


def test_half_written_files_are_no_parts(tmp_path: Path) -> None:
    part = Path(write(tmp_path, "episodes", episode("a")))
    (part.parent / f".{part.name}.tmp").write_bytes(part.read_bytes()[:100])
    assert len(read(tmp_path).episodes) == 1


@pytest.mark.parametrize("keep", [0, 100, -4])
def test_a_damaged_part_is_named_never_skipped(tmp_path: Path, keep: int) -> None:
    write(tmp_path, "episodes", episode("a"))
    part = Path(write(tmp_path, "episodes", episode("b")))
    part.write_bytes(part.read_bytes()[:keep])
    for reader in (read, finished_identities):
        with pytest.raises(LedgerError, match=part.name):
            reader(tmp_path)


def test_a_parquet_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a"))
    pq.write_table(pa.table({"x": [1]}), tmp_path / "episodes" / "part-0.parquet")
    with pytest.raises(LedgerError, match=r"part-0\.parquet.*no ledger schema version"):
        read(tmp_path)


def test_a_newer_schema_says_to_upgrade(tmp_path: Path) -> None:
    part = Path(write(tmp_path, "episodes", episode("a")))
    table = pq.read_table(part)
    pq.write_table(table.replace_schema_metadata({b"vla_harness.schema_version": b"99"}), part)
    with pytest.raises(LedgerError, match=rf"{part.name}.*version 99.*Upgrade"):
        read(tmp_path)


def test_columns_that_a_part_lacks_are_null(tmp_path: Path) -> None:
    part = Path(write(tmp_path, "latency", {"component": "e2e", "latency_ms": 250.0, "power_w": 7.0}))
    old = pq.read_table(part)
    pq.write_table(old.drop_columns(["power_w"]), part)
    latency = read(tmp_path).latency
    assert latency["latency_ms"].tolist() == [250.0]
    assert latency["power_w"].isna().tolist() == [True]


@pytest.mark.parametrize("made", [False, True])
def test_where_no_ledger_is_the_path_is_named(tmp_path: Path, made: bool) -> None:
    path = tmp_path / "none"
    if made:
        path.mkdir()
    with pytest.raises(LedgerError, match=str(path)):
        read(path)


def test_several_ledgers_read_as_one(tmp_path: Path) -> None:
    write(tmp_path / "a", "episodes", episode("a"), episode("b"))
    write(tmp_path / "b", "episodes", episode("b"), episode("c"))
    ledger = read(tmp_path / "a", tmp_path / "b")
    assert sorted(ledger.episodes["episode_key"]) == ["a", "b", "c"]
    assert ledger.path == f"{tmp_path / 'a'} {tmp_path / 'b'}"


def test_one_policy_with_two_checkpoints_is_not_merged(tmp_path: Path) -> None:
    write(tmp_path / "a", "episodes", episode("a", checkpoint_sha256="1" * 64))
    write(tmp_path / "b", "episodes", episode("a", checkpoint_sha256="2" * 64))
    with pytest.raises(LedgerError, match=r"'flow'.*111111111111.*222222222222"):
        read(tmp_path / "a", tmp_path / "b")


def test_a_ledger_whose_policy_changed_between_two_runs_is_not_pooled(tmp_path: Path) -> None:
    old, new = PolicyIdentity("w", "c", "p", "s"), PolicyIdentity("w", "c", "p", "other")
    for run, identity in (("one", old), ("two", new)):
        policies = json.dumps({"flow": {"identity": identity.record()}})
        write(tmp_path, "runs", {"run_id": run, "policies": policies})
        write(tmp_path, "episodes", episode(run, checkpoint_sha256=identity.sha256))
    with pytest.raises(LedgerError, match="which differ in statistics"):
        read(tmp_path)


def test_rows_written_before_identities_were_kept_belong_to_the_policy_with_their_weights(tmp_path: Path) -> None:
    identity = PolicyIdentity("w" * 64, "c", "p", "s")
    write(tmp_path / "old", "episodes", episode("a", checkpoint_sha256="w" * 64))
    write(tmp_path / "new", "episodes", episode("b", checkpoint_sha256=identity.sha256))
    write(tmp_path / "new", "runs", {"run_id": "r", "policies": json.dumps({"flow": {"identity": identity.record()}})})
    assert len(read(tmp_path / "old", tmp_path / "new").episodes) == 2


def test_one_suite_under_two_protocols_is_not_merged(tmp_path: Path) -> None:
    for name, steps in (("a", 220), ("b", 280)):
        protocol = json.dumps({"libero_spatial": {"max_steps": steps}})
        write(tmp_path / name, "runs", {"run_id": name, "protocol": protocol})
    with pytest.raises(UsageError, match="max_steps: 220 against 280"):
        read(tmp_path / "a", tmp_path / "b")


def test_the_manifest_of_a_suite_is_found_and_a_wrong_suite_named(tmp_path: Path) -> None:
    write(tmp_path, "runs", {"run_id": "r", "protocol": json.dumps({"libero_spatial": {"max_steps": 220}})})
    ledger = read(tmp_path)
    assert ledger.manifest("libero_spatial") == {"max_steps": 220}
    with pytest.raises(UsageError, match=r"libero_goal.*libero_spatial"):
        ledger.manifest("libero_goal")


def test_duckdb_and_polars_read_the_same_files(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a"), episode("b", "timeout"))
    write(tmp_path, "episodes", episode("c", "error", nfe=None))
    pattern = f"{tmp_path}/episodes/part-*.parquet"
    ours = sorted(read(tmp_path).episodes["outcome"].value_counts().to_dict().items())

    query = f"SELECT outcome, count(*) FROM '{pattern}' GROUP BY outcome ORDER BY outcome"  # noqa: S608
    in_duckdb = duckdb.connect().execute(query)
    in_polars = pl.read_parquet(pattern).group_by("outcome").len().sort("outcome")

    assert in_duckdb.fetchall() == ours
    assert in_polars.rows() == ours


def decision(key: str, number: int, **changes: Any) -> dict[str, Any]:
    row = {"run_id": "r1", "episode_key": key, "policy_id": "flow", "nfe": 1, "decision": number, "infer_ms": 1.0}
    return {**row, **changes}


def test_each_table_is_read_once_and_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "episodes", episode("a"))
    write(tmp_path, "latency", {"run_id": "r1", "component": "e2e", "latency_ms": 2.0})
    opened: list[tuple[str, list[str]]] = []
    real = parts._read_part

    def watched(location: Any, table: str, path: str, columns: list[str]) -> pa.Table:
        opened.append((table, columns))
        return real(location, table, path, columns)

    monkeypatch.setattr(parts, "_read_part", watched)
    ledger = open_ledger(tmp_path)
    assert opened == []
    assert ledger.rows("episodes", ["outcome"])["outcome"].to_pylist() == ["success"]
    assert len(ledger.latency) == len(ledger.latency) == 1
    assert [table for table, _ in opened] == ["episodes", "latency"]
    assert opened[0][1] == ["outcome"]
    assert len(ledger.episodes) == 1
    assert "outcome" not in opened[-1][1], "a column is read once"
    assert open_ledger(ledger) is ledger


def test_a_ledger_that_grows_while_it_is_read_stays_as_it_was_opened(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a"))
    ledger = open_ledger(tmp_path)
    assert ledger.rows("episodes", ["outcome"]).num_rows == 1
    write(tmp_path, "episodes", episode("b"))
    assert len(ledger.episodes) == 1


def test_decisions_of_an_attempt_that_left_no_row_are_not_counted(tmp_path: Path) -> None:
    """A crash between the two tables: the attempt runs again, in this run or in the next."""
    write(tmp_path, "decisions", *(decision("a", n, attempt=1) for n in range(2)))
    write(tmp_path, "decisions", *(decision("a", n, attempt=2, infer_ms=7.0) for n in range(3)))
    write(tmp_path, "decisions", *(decision("b", n, attempt=1, run_id="r0") for n in range(3)))
    write(tmp_path, "decisions", *(decision("b", n, attempt=1) for n in range(3)))
    write(tmp_path, "episodes", episode("a", attempt=2, decisions=3), episode("b", attempt=1, decisions=3))
    ledger = read(tmp_path)
    assert ledger.decisions["infer_ms"].tolist() == [7.0] * 3 + [1.0] * 3
    assert set(ledger.decisions["run_id"]) == {"r1"}
    assert len(ledger.decisions) == ledger.episodes["decisions"].sum()
    assert ledger.notices == ()
    assert len(read(tmp_path, all_attempts=True).decisions) == 11


def test_without_attempts_the_last_series_of_the_right_length_counts(tmp_path: Path) -> None:
    """Ledgers of before: three whole decisions, then a repetition that was cut off."""
    write(tmp_path, "decisions", *(decision("a", n, infer_ms=1.0) for n in range(3)))
    write(tmp_path, "decisions", *(decision("a", n, infer_ms=2.0) for n in range(3)))
    write(tmp_path, "decisions", *(decision("a", n, infer_ms=3.0) for n in range(2)))
    write(tmp_path, "decisions", *(decision("b", n, nfe=None) for n in range(2)))
    write(tmp_path, "episodes", episode("a", decisions=3), episode("b", nfe=None, decisions=5))
    ledger = read(tmp_path)
    assert ledger.decisions["infer_ms"].tolist() == [2.0] * 3
    assert ledger.notices == ("1 episodes have no whole series of decisions: theirs are left out.",)


def test_one_key_with_two_outcomes_is_said_not_settled_in_silence(tmp_path: Path) -> None:
    write(tmp_path, "episodes", episode("a", "error"), episode("a", "success", minute=1), episode("b"))
    assert read(tmp_path).notices == ()
    write(tmp_path, "episodes", episode("b", "timeout", minute=2))
    (notice,) = read(tmp_path).notices
    assert notice.startswith("1 episodes finished more than once with different outcomes")
    (side,) = read_sides(tmp_path)
    assert side.contradictory == ("b",)
    assert any("1 episodes finished more than once" in text for text in compare(tmp_path, tmp_path).notices)


@pytest.mark.parametrize("ended", ["finished", "interrupted", "stopped", "failed"])
def test_a_run_that_ended_has_ended_though_the_clock_stepped_back(tmp_path: Path, ended: str) -> None:
    """The end's part then sorts before the beginning's."""
    write(tmp_path, "runs", {"run_id": "r1", "status": "running", "protocol": "{}"})
    end = Path(write(tmp_path, "runs", {"run_id": "r1", "status": ended, "protocol": "{}"}))
    end.rename(end.with_name("part-20260101T000000.000000Z-00000000.parquet"))
    assert read(tmp_path).runs["status"].tolist() == [ended]
    assert last_status(tmp_path) == ended


def test_runs_stand_in_the_order_in_which_they_wrote_whatever_the_clock_says(tmp_path: Path) -> None:
    for run, hours in (("first", 5), ("second", 0)):
        writer = LedgerWriter(tmp_path, now=lambda hours=hours: START + timedelta(hours=hours))
        for status in ("running", "interrupted" if run == "first" else "finished"):
            writer.append("runs", [{"run_id": run, "status": status}])
    assert read(tmp_path).runs["run_id"].tolist() == ["first", "second"]
    assert last_status(tmp_path) == "finished"
