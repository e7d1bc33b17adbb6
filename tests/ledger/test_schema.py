"""The tables say what they hold: a description and a unit for every column, in code, files and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness.cli.app import invoke
from harness.ledger import LedgerWriter, read
from harness.ledger.schema import COLUMNS, COMPONENTS, OUTCOMES, PHASES, PLAN_STATUSES, TABLES, Column
from harness.schedule.canaries import CANARY_KINDS, CANARY_LABELS
from harness.spec.stages import STAGES

FROZEN = Path(__file__).parents[1] / "data" / "ledger_2026_11"
"""What `harness run` wrote in November 2026 of the stub world: two policies, four episodes each, and a probe."""

UNITS = {
    "_gb_s": "1e9 B/s",
    "_tflop_s": "1e12 FLOP/s",
    "_s": "s",
    "_ms": "ms",
    "_us": "µs",
    "_mhz": "MHz",
    "_c": "°C",
    "_w": "W",
    "_j": "J",
    "_bytes": "B",
}
EVERY = [(table, column) for table, columns in COLUMNS.items() for column in columns]


@pytest.mark.parametrize(("table", "column"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_every_column_says_what_it_holds_in_one_line_and_in_which_unit(table: str, column: Column) -> None:
    assert column.description.endswith("."), table
    assert 10 < len(column.description) <= 120
    assert "\n" not in column.description
    suffix = next((suffix for suffix in sorted(UNITS, key=len, reverse=True) if column.name.endswith(suffix)), None)
    if suffix is not None:
        assert column.unit == UNITS[suffix]


def test_closed_lists_are_named() -> None:
    values = {(table, column.name): column.values for table, column in EVERY if column.values}
    assert values == {
        ("episodes", "outcome"): OUTCOMES,
        ("episodes", "stage"): STAGES,
        ("latency", "component"): COMPONENTS,
        ("counts", "component"): COMPONENTS,
        ("phases", "phase"): PHASES,
        ("duplicates", "outcome"): OUTCOMES,
        ("duplicates", "counted_outcome"): OUTCOMES,
        ("episodes", "canary"): CANARY_LABELS,
        ("canaries", "kind"): CANARY_KINDS,
        ("plans", "status"): PLAN_STATUSES,
    }


def test_a_part_tells_any_reader_what_its_columns_are(tmp_path: Path) -> None:
    part = LedgerWriter(tmp_path).append("nodes", [{"run_id": "r", "node_id": "n", "launch_us": 3.5}])
    field = pq.read_schema(tmp_path / str(part)).field("launch_us")
    assert field.metadata[b"unit"] == "µs".encode()
    assert b"Host time" in field.metadata[b"description"]


@pytest.mark.parametrize("table", COLUMNS)
def test_columns_of_before_keep_name_type_and_place(table: str) -> None:
    parts = sorted((FROZEN / table).glob("*.parquet"))
    if not parts:
        pytest.skip("the frozen ledger was written without this table")
    before = pq.read_schema(parts[0])
    assert TABLES[table].names[: len(before)] == before.names
    assert [TABLES[table].field(field.name).type for field in before] == [field.type for field in before]


def test_a_ledger_of_before_reads_as_it_did_and_columns_since_are_null() -> None:
    ledger = read(FROZEN)
    counts = ledger.episodes.groupby("policy_id")["outcome"].value_counts().to_dict()
    assert counts == {("noop", "timeout"): 4, ("random", "timeout"): 4}
    assert len(ledger.decisions) == ledger.episodes["decisions"].sum()
    assert ledger.runs["status"].tolist() == ["finished"]
    for table in TABLES:
        assert list(getattr(ledger, table).columns) == TABLES[table].names
    assert ledger.decisions["attempt"].isna().all()


def test_the_command_line_lists_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "columns", "episodes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(COLUMNS["episodes"])
    assert any(line.startswith("wall_s ") and "  s  " in line and "whole episode" in line for line in lines)
    assert invoke(["list", "columns", "--json"]) == 0
    listed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["columns"]
    assert [(entry["table"], entry["column"]) for entry in listed] == [(t, column.name) for t, column in EVERY]
    assert invoke(["list", "columns", "episode"]) == 64
    assert "Did you mean 'episodes'" in capsys.readouterr().err
