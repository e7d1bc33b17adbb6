"""The wall clock against its prediction in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.summary import Summary
from harness.report.format import NONE, count, known, number, percent, percent_interval, points, text, variant
from harness.report.tables.table import Table, records

NOTE = (
    "agree: episodes that ended as the clock asynchronous had it with the same source of delays (Clopper-Pearson). "
    "difference: points of success more on the wall clock, Tango's score interval. same delay: share of decisions that "
    "took as many control steps as predicted, of those that both had. delay: median, 99th percentile, longest. "
    "overruns: control steps that took longer than their period."
)
ALONE = " Without a prediction nothing can agree: run --clock asynchronous with the same source, and report both."


def wall_table(summary: Summary) -> Table:
    """Agreement of outcomes and of delays; without rows where nothing ran on the wall clock."""
    cells = records(summary.wall)
    alone = any(not row["pairs"] for row in cells)
    return Table(
        "Wall clock against virtual time",
        (
            *("policy", "predicted", "episodes", "agree", "95 % interval", "difference", "95 %"),
            *("same delay", "delay, ms", "overruns"),
        ),
        tuple(_row(row) for row in cells),
        2,
        NOTE + (ALONE if alone else ""),
    )


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    paired = bool(row["pairs"])
    bounds = f"{points(row['difference_low'])} … {points(row['difference_high'])}" if paired else NONE
    delays = " / ".join(number(row[name]) for name in ("delay_ms", "delay_ms_p99", "delay_ms_max"))
    return (
        variant(row["policy_id"], row["nfe"]),
        text(row["latency_source"]),
        count(row["n"]),
        f"{count(row['agree'])}/{count(row['pairs'])}" if paired else NONE,
        percent_interval(row["agreement_low"], row["agreement_high"]) if paired else NONE,
        points(row["difference"]) if paired else NONE,
        bounds,
        f"{percent(row['same_delay'])} of {count(row['decisions'])}" if row["decisions"] else NONE,
        delays if known(row["delay_ms"]) else NONE,
        f"{percent(row['overrun_share'])} of {count(row['steps'])}" if row["steps"] else NONE,
    )
