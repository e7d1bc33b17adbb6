"""Baselines beside the ledgers, and the history of many nights."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.paired.pairing import read_sides
from harness.cli.app import invoke
from harness.errors import LedgerError, UsageError
from harness.gate.baseline import FOLDER, current_baselines, find_baseline, read_baselines, set_baseline
from harness.gate.nights import list_ledgers

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OTHER = {"suite": "libero_spatial", "max_steps": 220}


def test_the_last_acceptance_counts_and_earlier_ones_are_kept(make_ledger: Any, tmp_path: Path) -> None:
    make_ledger("one", ["++"])
    two, candidate = make_ledger("two", ["++"]), make_ledger("candidate", ["++"])
    set_baseline(tmp_path, "one", NOW)
    set_baseline(tmp_path, two, NOW + timedelta(days=1), note="better")
    (side,) = read_sides(candidate)
    assert find_baseline(tmp_path, side).path(tmp_path) == str(two)
    assert [record.ledger for record in read_baselines(tmp_path)] == ["one", "two"]
    assert [record.note for record in current_baselines(read_baselines(tmp_path))] == ["better"]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [({"manifest": OTHER}, "protocol"), ({"hardware": "orin"}, "hardware"), ({"nfe": 1}, "nfe")],
)
def test_a_baseline_of_another_kind_is_not_taken(
    make_ledger: Any, tmp_path: Path, changes: dict[str, Any], difference: str
) -> None:
    make_ledger("one", ["++"])
    set_baseline(tmp_path, "one", NOW)
    (side,) = read_sides(make_ledger("candidate", ["++"], **changes))
    with pytest.raises(UsageError, match=f"nearest differs in {difference}"):
        find_baseline(tmp_path, side)


def test_lines_of_development_are_kept_apart(make_ledger: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_ledger(name, ["++"])
    set_baseline(tmp_path, "one", NOW, name="main")
    set_baseline(tmp_path, "two", NOW + timedelta(days=1), name="edge")
    (side,) = read_sides(make_ledger("candidate", ["++"]))
    assert find_baseline(tmp_path, side, "main").ledger == "one"
    assert find_baseline(tmp_path, side, "edge").ledger == "two"


def test_a_damaged_record_is_named(make_ledger: Any, tmp_path: Path) -> None:
    make_ledger("one", ["++"])
    set_baseline(tmp_path, "one", NOW)
    (record,) = (tmp_path / FOLDER).glob("*.json")
    record.write_text("{}")
    with pytest.raises(LedgerError, match=record.name):
        read_baselines(tmp_path)


def test_a_ledger_of_probes_or_two_policies_is_no_baseline(make_ledger: Any, tmp_path: Path) -> None:
    make_ledger("probes", [], latency=[{"component": "e2e", "latency_ms": 1.0, "sample": 0}])
    with pytest.raises(UsageError, match="no episodes"):
        set_baseline(tmp_path, "probes", NOW)
    with pytest.raises(LedgerError, match="nowhere"):
        set_baseline(tmp_path, tmp_path / "nowhere", NOW)


def test_the_gate_looks_its_baseline_up(make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_ledger("good", ["+" * 500], policy="v1")
    bad = make_ledger("bad", ["+" * 400 + "-" * 100], policy="v2")
    assert invoke(["baseline", "set", "good", "--root", str(tmp_path)]) == 0
    assert invoke(["baseline", "show", "--root", str(tmp_path)]) == 0
    assert "good" in capsys.readouterr().out
    assert invoke(["gate", str(bad), "--baseline", str(tmp_path)]) == 1
    assert invoke(["gate", str(bad), "--baseline", str(tmp_path), "--baseline-name", "edge"]) == 64
    assert invoke(["gate", str(bad)]) == 64


def test_baselines_of_two_protocols_are_told_apart(
    make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, mujoco in (("old", "3.3.2"), ("new", "3.4.0")):
        make_ledger(name, ["+" * 5], manifest={"suite": "libero_spatial", "version.mujoco": mujoco})
        set_baseline(tmp_path, name, NOW)
    records = read_baselines(tmp_path)
    assert len({record.protocol[:8] for record in records}) == 2
    assert invoke(["baseline", "show", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(record.protocol[:8] in out for record in records)


def nights(make_ledger: Any, failures: list[int]) -> None:
    for day, lost in enumerate(failures):
        outcomes = ["+" * (200 - lost) + "-" * lost]
        latency = [
            {"hardware": "h100", "node_id": "n", "component": "e2e", "sample": n, "latency_ms": 100.0 + day % 2 + n}
            for n in range(5)
        ]
        make_ledger(f"night-{day:02d}", outcomes, latency=latency, start=NOW + timedelta(days=day))


def test_history_shows_a_step_and_draws_it(
    make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights(make_ledger, [4, 6, 5, 4, 6, 5, 20, 22, 19, 21])
    plot = tmp_path / "plots" / "history.svg"
    command = ["baseline", "history", "--root", str(tmp_path), "--plot", str(plot)]
    assert invoke(command) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "success 97.5 → 89.8 %" in line]
    assert len(lines) == 1
    assert "night-06" in lines[0]
    assert plot.read_text().startswith("<?xml")
    assert invoke([*command, "--strict"]) == 1


def test_a_quiet_history_passes_strictly(make_ledger: Any, tmp_path: Path) -> None:
    nights(make_ledger, [4, 6, 5, 4, 6, 5, 4, 6])
    assert invoke(["baseline", "history", "--root", str(tmp_path), "--strict"]) == 0


def test_nights_of_other_protocols_stand_in_other_series(
    make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights(make_ledger, [4, 4, 4])
    make_ledger("other", ["+" * 200], manifest=OTHER)
    assert invoke(["baseline", "history", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("95 %  Episodes") == 2


def test_nights_under_a_clock_are_a_series_of_their_own(
    make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nights(make_ledger, [4, 4, 4])
    for name, source in (("one", "constant:100ms"), ("two", "constant:100ms"), ("three", "constant:300ms")):
        make_ledger(name, ["+" * 200], clock="asynchronous", latency_source=source)
    assert invoke(["baseline", "history", "--root", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count("95 %  Episodes") == 3
    for timing in ("asynchronous:constant:100ms", "asynchronous:constant:300ms"):
        assert shown.count(f"pi, {timing}, libero_spatial") == 1


def test_only_ledgers_are_listed(make_ledger: Any, tmp_path: Path) -> None:
    make_ledger("one", ["+"])
    (tmp_path / "notes").mkdir()
    assert [Path(path).name for path in list_ledgers(tmp_path)] == ["one"]
    with pytest.raises(LedgerError, match="no directory"):
        list_ledgers(tmp_path / "nowhere")
    assert invoke(["baseline", "history", "--root", str(tmp_path / "notes"), "--plot", str(tmp_path / "a.svg")]) == 64
