"""Where the time of a run went."""

from __future__ import annotations

from harness.analysis.summary import Summary
from harness.analysis.timing import BUSY, PARTS, WORKER_PARTS
from harness.ledger.schema import PHASES
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


def worker_table(summary: Summary) -> Table:
    """Where the workers' time went."""
    rows = tuple(
        (
            text(row["run_id"]),
            count(row["workers"]),
            duration(row["run_s"]),
            *(percent(row[f"{part}_share"]) for part in WORKER_PARTS),
        )
        for row in records(summary.workers)
    )
    note = (
        "Shares of workers × time, which add up. startup: from the run's start to a worker's first question. build: "
        "opening tasks. idle: waiting for work. end: from a worker's last episode to the run's."
    )
    return Table("Where the workers' time went", ("run", "workers", "time", *WORKER_PARTS), rows, 1, note)


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


def utilisation_table(summary: Summary) -> Table:
    """How busy each node was."""
    rows = tuple(
        (text(row["run_id"]), text(row["node_id"]), count(row["workers"]), *(percent(row[name]) for name in BUSY))
        for row in records(summary.utilisation)
    )
    note = (
        "Mean of samples about a second apart, while episodes ran. workers busy: of the workers there, those with "
        "work. servers busy: time in which a policy server computed. GPU busy: time in which the servers' GPUs ran a "
        "kernel, as NVML says."
    )
    columns = ("run", "node", "workers", "workers busy", "servers busy", "GPU busy")
    return Table("Utilisation", columns, rows, 2, note)


def phase_table(summary: Summary) -> Table:
    """What the phases of each run took."""
    rows = tuple(
        (text(row["run_id"]), duration(row["total_s"]), *(duration(row[name]) for name in PHASES))
        for row in records(summary.phases)
    )
    note = (
        "ray: starting or joining a cluster. policies: loading them. nodes: choosing a renderer. claim: plan and "
        "ledger. workers: from their start to the first question for work. end: stopping everything."
    )
    return Table("Phases of the run", ("run", "all", *PHASES), rows, 1, note)
