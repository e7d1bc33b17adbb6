"""Where the time of a run went."""

from __future__ import annotations

from harness.analysis.summary import Summary
from harness.analysis.timing import PARTS
from harness.report.format import count, duration, number, percent, text
from harness.report.names import VariantNames
from harness.report.tables.table import Table, records


def time_table(summary: Summary, names: VariantNames) -> Table:
    """Where the time went."""
    rows = tuple(
        (
            names.of(row),
            count(row["episodes"]),
            duration(row["wall_s"]),
            *(percent(row[f"{part}_share"]) for part in PARTS),
            number(row["per_worker_hour"]),
        )
        for row in records(summary.time)
    )
    parts = tuple(part.replace("_", " ") for part in PARTS)
    note = "wall: summed over workers. other: what the named causes leave. episodes/h: of one worker."
    return Table("Where the time went", ("policy", "episodes", "wall", *parts, "episodes/h"), rows, 1, note, names.key)


def throughput_table(summary: Summary) -> Table:
    """Speed of whole runs."""
    rows = tuple(
        (
            text(row["run_id"]),
            count(row["episodes"]),
            duration(row["busy_s"]),
            number(row["per_hour"]),
            number(row["concurrency"]),
        )
        for row in records(summary.throughput)
    )
    note = "busy: time with at least one episode under way. at once: mean number of episodes under way in it."
    return Table("Throughput", ("run", "episodes", "busy", "episodes/h", "at once"), rows, 1, note)
