"""The wall clock against its prediction: outcomes, delays decision by decision, overruns."""

from __future__ import annotations

import pytest

from harness.analysis.summary import Summary
from harness.ledger import LedgerWriter, read
from harness.report import render_html
from harness.report.contents import AGGREGATES, contents

SOURCE = "constant:125ms"


def write(path, cells):
    """A ledger of (clock, source) → [(outcome, delays in steps, overruns)] of the same episodes."""
    writer = LedgerWriter(path)
    writer.append("runs", [{"run_id": "r", "suite": "name: wall", "protocol": "{}", "status": "finished"}])
    for (clock, source), episodes in cells.items():
        cell = {"run_id": "r", "policy_id": "remote", "nfe": None, "clock": clock, "latency_source": source}
        for i, (outcome, delays, overruns) in enumerate(episodes):
            row = {**cell, "episode_key": f"{i:064x}", "suite": "s", "task_id": 0, "task": "t", "attempt": 1}
            row |= {"outcome": outcome, "success": None if outcome == "error" else outcome == "success"}
            row |= {"steps": 100, "sim_s": 5.0, "decisions": len(delays), "overruns": overruns, "stale_steps": 0}
            row |= {"hold_steps": 0, "trajectory_sha256": str((outcome, delays))}
            writer.append("episodes", [row])
            one = {**cell, "episode_key": row["episode_key"], "attempt": 1}
            steps = [{**one, "decision": k, "delay_steps": d, "delay_ms": 50.0 * d - 25} for k, d in enumerate(delays)]
            writer.append("decisions", steps)
    return read(path)


def test_outcomes_delays_and_overruns_are_held_against_the_clock_that_predicts(tmp_path):
    ledger = write(
        tmp_path / "out",
        {
            ("asynchronous", SOURCE): [(o, [3, 3, 3], None) for o in ("success", "timeout", "success", "error")],
            ("asynchronous", "constant:1ms"): [("timeout", [1, 1, 1], None)] * 4,
            ("wall", SOURCE): [
                ("success", [3, 3, 3], 0),
                ("success", [3, 4, 3, 3], 2),
                ("timeout", [3, 2], 0),
                ("success", [3], 0),
            ],
        },
    )
    (row,) = Summary(ledger).wall.to_dict("records")
    assert (row["policy_id"], row["latency_source"]) == ("remote", SOURCE)
    # An error of the prediction is no pair.
    assert (row["n"], row["pairs"], row["agree"], row["lost"], row["gained"]) == (4, 3, 1, 1, 1)
    assert row["difference_low"] < row["difference"] == 0 < row["difference_high"]
    # Decisions that both had: 3 + 3 + 2 of the pairs, and one of the episode that failed in virtual time.
    assert row["decisions"] == 9
    assert (row["same_delay"], row["longer"], row["shorter"]) == pytest.approx((7 / 9, 1 / 9, 1 / 9))
    assert (row["predicted_ms"], row["delay_ms"], row["delay_ms_max"]) == (125, 125, 175)
    assert (row["steps"], row["overruns"], row["overrun_share"]) == (400, 2, 0.005)
    assert row["same_trajectory"] == pytest.approx(1 / 3)


def test_the_report_shows_it_and_says_what_lacks(tmp_path):
    alone = Summary(write(tmp_path / "alone", {("wall", SOURCE): [("success", [3], 0)]}))
    (table,) = contents(alone)["wall"]
    assert "run --clock asynchronous with the same source" in table.note
    plain = Summary(write(tmp_path / "plain", {("asynchronous", SOURCE): [("success", [3], None)]}))
    assert "wall" not in contents(plain)
    both = Summary(
        write(
            tmp_path / "both",
            {("wall", SOURCE): [("success", [3], 1)], ("asynchronous", SOURCE): [("success", [3], None)]},
        )
    )
    page = render_html(both, command="")
    assert page.index("</nav>") < page.index('<section id="devices">') < page.index('<section id="wall">')
    assert "1/1" in page[page.index('id="wall"') :]
    aggregate = AGGREGATES["wall"]
    frame = aggregate.frame(both)
    assert [column.name for column in aggregate.columns if column.name not in frame] == []
    assert (frame["estimate"].iloc[0], frame["n"].iloc[0], frame["overruns"].iloc[0]) == (1, 1, 1)
