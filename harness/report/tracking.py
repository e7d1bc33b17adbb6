"""A ledger's results for an experiment tracker: figures, the report's tables, and videos of what failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from harness.analysis.summary import Summary
from harness.report.contents import contents
from harness.report.format import known, variant
from harness.report.tables.table import records
from harness.trackers import Sink, TrackedTable

SECTIONS = ("success", "tasks", "paired", "errors", "latency", "prefix", "time")
MAX_VIDEOS = 12
"""Videos that are given to a tracker: of failures first."""


def track(summary: Summary, sinks: Sequence[Sink], say: Callable[[str], None], *, step: int = 0) -> None:
    """Give a ledger's results to trackers. Trouble is said, and changes nothing else.

    Args:
        summary: Of the ledger.
        sinks: Where to.
        say: Prints a line.
        step: Step of a training, 0 without one.
    """
    if not sinks:
        return
    figures = tracked_figures(summary)
    tables = [
        TrackedTable(table.title, table.columns, table.rows)
        for found in contents(summary, SECTIONS).values()
        for table in found
    ]
    videos = tracked_videos(summary.ledger.episodes, summary.ledger.path)
    for sink in sinks:
        try:
            sink.log(step, figures)
            for table in tables:
                sink.table(step, table)
            for name, path in videos:
                sink.video(step, name, path)
            sink.close()
        except Exception as error:
            say(f"{type(sink).__name__.strip('_')} did not take the result: {type(error).__name__}: {error}")


def tracked_figures(summary: Summary) -> dict[str, float]:
    """Success with its interval by policy and suite, and the latency of a decision by device and configuration, ms."""
    found: dict[str, float | None] = {}
    for row in records(summary.success):
        name = f"{variant(row['policy_id'], row['nfe'])}/{row['suite']}"
        for figure in ("rate", "low", "high", "n", "errors"):
            found[f"success/{name}/{figure}"] = row[figure]
    for row in records(summary.latency):
        if row["component"] == "e2e":
            name = f"{row['hardware']}/{variant(row['policy_id'], row['nfe'])}/batch {row['batch_size']}"
            for figure in ("median", "p99"):
                found[f"e2e_ms/{name}/{figure}"] = row.get(figure)
    return {name: float(value) for name, value in found.items() if known(value)}  # type: ignore[arg-type]


def tracked_videos(episodes: pd.DataFrame, ledger: str) -> list[tuple[str, Path]]:
    """Videos on this machine by name, of failures first."""
    filmed = episodes[episodes["video"].notna()]
    filmed = filmed.assign(_late=filmed["outcome"] == "success").sort_values("_late", kind="stable")
    found: list[tuple[str, Path]] = []
    for row in records(filmed):
        path = Path(ledger) / str(row["video"])
        if len(found) < MAX_VIDEOS and path.is_file():
            name = f"{variant(row['policy_id'], row['nfe'])}/{row['suite']} task {row['task_id']}"
            found.append((f"{name} init {row['init_state_id']} {row['outcome']}", path))
    return found
