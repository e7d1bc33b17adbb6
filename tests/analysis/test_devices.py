"""Success under the latency of devices: rates, pairs with the synchronous run, motion, and cells that were not run."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from harness.analysis.devices import device_cells, rank_changes
from harness.analysis.summary import Summary
from harness.ledger import LedgerWriter, read
from harness.report.contents import contents
from harness.report.html import render_html

SOURCES = {
    "predicted:orin:mid#1": {"device": "orin", "band": "mid", "timing_of": "pi05"},
    "published:spark#2": {"device": "spark", "timing_of": "pi05"},
}
LEFT_OUT = {
    "policy_id": "flow", "nfe": 10, "clock": "asynchronous", "latency_source": "published:spark#2", "delay_steps": 26,
    "reason": "the chunk of 10 steps does not outlast the delay of 26 steps",
}  # fmt: skip


def write(path, outcomes):
    """A ledger of (nfe, clock, source) → outcomes, "+" and "-", of the same episodes."""
    writer = LedgerWriter(path)
    timing = json.dumps({"clocks": [], "sources": SOURCES, "left_out": [LEFT_OUT]})
    run = {"run_id": "r", "suite": "name: devices", "protocol": "{}", "status": "finished", "timing": timing}
    writer.append("runs", [run])
    for (nfe, clock, source), text in outcomes.items():
        cell = {"run_id": "r", "policy_id": "flow", "nfe": nfe, "clock": clock, "latency_source": source}
        delayed = clock != "synchronous"
        for i, mark in enumerate(text):
            solved = mark == "+"
            row = {**cell, "episode_key": f"{i:064x}", "suite": "libero_spatial", "task_id": i % 2, "task": f"t{i % 2}"}
            row |= {"outcome": "success" if solved else "timeout", "success": solved, "attempt": 1, "decisions": 1}
            row |= {"steps": 100, "sim_s": 5.0, "stale_steps": 20 * delayed, "hold_steps": 10 * delayed}
            row |= {"jerk_m_s3": 4.0 + delayed, "energy_j": 6.0 if delayed else None}
            writer.append("episodes", [row])
            step = {**cell, "episode_key": f"{i:064x}", "decision": 0, "attempt": 1, "delay_steps": 3 * delayed}
            writer.append("decisions", [{**step, "delay_ms": 140.0 * delayed}])
    return path


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    cells = {
        (1, "synchronous", None): "+++++-+-++",
        (10, "synchronous", None): "++++++++++",
        (1, "asynchronous", "predicted:orin:mid#1"): "+++++-+-+-",
        (10, "asynchronous", "predicted:orin:mid#1"): "++++------",
    }
    return read(write(tmp_path_factory.mktemp("devices") / "ledger", cells))


@pytest.fixture(scope="module")
def cells(ledger) -> pd.DataFrame:
    return device_cells(ledger.episodes, ledger.decisions, ledger.runs)


def row_of(cells, nfe, clock, device=None):
    own = cells[(cells["nfe"] == nfe) & (cells["clock"] == clock)]
    own = own[own["device"].isna()] if device is None else own[own["device"] == device]
    (row,) = own.to_dict("records")
    return row


def test_each_cell_is_paired_with_the_synchronous_run_of_its_policy_and_nfe(cells):
    row = row_of(cells, 10, "asynchronous", "orin")
    assert (row["n"], row["successes"], row["rate"]) == (10, 4, 0.4)
    assert (row["pairs"], row["lost"], row["gained"], row["difference"]) == (10, 6, 0, -0.6)
    assert row["difference_low"] < -0.6 < row["difference_high"] < 0
    assert (row["band"], row["timing_of"]) == ("mid", "pi05")
    other = row_of(cells, 1, "asynchronous", "orin")
    assert (other["lost"], other["difference"]) == (1, pytest.approx(-0.1))
    assert pd.isna(row_of(cells, 1, "synchronous")["pairs"])


def test_motion_and_energy(cells):
    row = row_of(cells, 10, "asynchronous", "orin")
    assert row["stale_share"] == pytest.approx(0.2)
    assert row["control_hz"] == pytest.approx(18.0)
    assert row["hold_s"] == pytest.approx(0.5)
    assert (row["completion_s"], row["jerk_m_s3"], row["delay_steps"], row["delay_ms"]) == (5, 5, 3, 140)
    assert row["joules_per_success"] == pytest.approx(60 / 4)
    # Ten episodes of 6 J, four solved: residuals 6 and 6 − 15, t of 9 degrees of freedom.
    half = 2.2622 * (((6 * 6**2 + 4 * 9**2) / 9) ** 0.5) * 10**0.5 / 4
    assert row["joules_high"] - 15 == pytest.approx(half, rel=1e-3)
    assert row["joules_low"] == pytest.approx(max(15 - half, 0), rel=1e-3)
    plain = row_of(cells, 10, "synchronous")
    assert (plain["control_hz"], plain["stale_share"]) == (20, 0)
    assert pd.isna(plain["joules_per_success"])


def test_a_cell_that_was_not_run_says_why_instead_of_a_rate(cells, ledger):
    row = row_of(cells, 10, "asynchronous", "spark")
    assert (row["n"], row["delay_steps"]) == (0, 26)
    assert pd.isna(row["rate"])
    (success, _) = contents(Summary(ledger))["devices"]
    (line,) = [line for line in success.rows if "spark" in line[2]]
    assert "does not outlast the delay of 26 steps" in line[4]


def test_a_device_that_turns_two_nfe_around_is_told(cells):
    (sentence,) = rank_changes(cells)
    assert "NFE 1 against NFE 10 is -20.0 points in the synchronous run and +30.0 under asynchronous" in sentence
    assert re.search(r"\(p 0\.\d+, Fisher's exact test\)\.$", sentence)


def test_the_page_draws_success_against_delay_and_the_heat_map(ledger):
    page = render_html(Summary(ledger), command="harness report x")
    assert 'id="devices"' in page
    assert "Success on libero_spatial against the delay of decisions" in page
    assert "Success of flow under asynchronous, by device and NFE" in page


def test_a_synchronous_ledger_has_no_such_section(tmp_path):
    plain = read(write(tmp_path / "plain", {(1, "synchronous", None): "++-"}))
    summary = Summary(plain)
    timed = summary.devices[summary.devices["n"] > 0]
    assert timed["clock"].unique().tolist() == ["synchronous"]
