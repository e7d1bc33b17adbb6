"""The tables of a report as text: terminal, Markdown and HTML print the same cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.analysis.latency.percentiles import CONFIGURATION, samples_needed
from harness.analysis.timing import PARTS
from harness.ledger import Ledger
from harness.report.format import (
    NONE,
    count,
    duration,
    gibibytes,
    known,
    moment,
    number,
    number_interval,
    percent,
    percent_interval,
    task_name,
    text,
    variant,
)
from harness.report.summary import Summary
from harness.report.tables.table import Records, Table, records


def named(row: Mapping[str, Any], summary: Summary) -> str:
    """A row's policy at its NFE; a multi-step policy run with one step is called what it is."""
    name = variant(row["policy_id"], row["nfe"])
    return f"{name.removesuffix(')')}, {NAIVE})" if is_naive(row, summary) else name


NAIVE = "naive 1-step"
"""A checkpoint of many denoising steps at NFE 1, without a head for it: what a distilled student has to beat."""


def is_naive(row: Mapping[str, Any], summary: Summary) -> bool:
    """Whether a row is of a naive 1-step variant."""
    return known(row["nfe"]) and (str(row["policy_id"]), int(row["nfe"])) in summary.naive


def success_table(summary: Summary) -> Table:
    """Success of each policy on each suite."""
    rows = [
        (
            _with_role(named(row, summary), row["policy_id"], summary),
            text(row["suite"]),
            f"{count(row['successes'])}/{count(row['n'])}",
            percent(row["rate"]),
            percent_interval(row["low"], row["high"]),
            count(row["timeouts"]),
            count(row["errors"]),
            count(row["retried"]),
            number(row["steps"]),
        )
        for row in records(summary.suites)
    ]
    columns = ("policy", "suite", "solved", "rate", "95 % interval", "timeouts", "errors", "retried", "steps")
    return Table("Success", columns, tuple(rows), 2, SUCCESS_NOTE)


SUCCESS_NOTE = (
    "solved: successes / scored episodes (success + timeout). Errors of the infrastructure count in no rate and are "
    "shown apart. 95 % interval: Clopper-Pearson. steps: median control steps of successes."
)


def task_tables(summary: Summary) -> list[Table]:
    """Success per task: one table per suite, one column per policy and NFE."""
    tables = []
    for suite, rows in summary.tasks.groupby("suite", sort=False):
        variants = list(dict.fromkeys(named(row, summary) for row in records(rows)))
        cells: dict[tuple[int, str], dict[str, str]] = {}
        for row in records(rows):
            cell = cells.setdefault((int(row["task_id"]), task_name(row["task"])), {})
            cell[named(row, summary)] = _task_cell(row)
        body = tuple(
            (str(task_id), task, *(cell.get(name, NONE) for name in variants))
            for (task_id, task), cell in sorted(cells.items())
        )
        tables.append(Table(f"Success per task: {suite}", ("id", "task", *variants), body, 2, TASK_NOTE))
    return tables


TASK_NOTE = "solved / scored episodes (95 % Clopper-Pearson interval, per cent)"


def _task_cell(row: Mapping[str, Any]) -> str:
    errors = f" +{count(row['errors'])} error{'s' if row['errors'] > 1 else ''}" if row["errors"] else ""
    interval = f" ({100 * row['low']:.0f}–{100 * row['high']:.0f})" if row["n"] else ""
    return f"{count(row['successes'])}/{count(row['n'])}{interval}{errors}"


MAX_ERRORS = 40
"""Distinct errors in a table; a policy that returns another NaN at every step makes thousands."""


def error_table(summary: Summary) -> Table:
    """Every error with its message, most frequent first."""
    rows = tuple(
        (
            named(row, summary),
            text(row["error_type"]),
            text(row["error_message"]),
            count(row["count"]),
            count(row["tasks"]),
        )
        for row in records(summary.errors.head(MAX_ERRORS))
    )
    rest = summary.errors["count"].iloc[MAX_ERRORS:]
    note = f"{len(rest)} further messages ({count(rest.sum())} episodes) are in the ledger only." if len(rest) else ""
    return Table("Errors", ("policy", "error", "message", "episodes", "tasks"), rows, 3, note)


def time_table(summary: Summary) -> Table:
    """Where the time went."""
    rows = tuple(
        (
            named(row, summary),
            count(row["episodes"]),
            duration(row["wall_s"]),
            *(percent(row[f"{part}_share"]) for part in PARTS),
            number(row["per_worker_hour"]),
        )
        for row in records(summary.time)
    )
    names = tuple(part.replace("_", " ") for part in PARTS)
    note = "wall: summed over workers. other: what the named causes leave. episodes/h: of one worker."
    return Table("Where the time went", ("policy", "episodes", "wall", *names, "episodes/h"), rows, 1, note)


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


def latency_tables(summary: Summary) -> list[Table]:
    """Percentiles by NFE and component: one table per configuration."""
    return [
        Table(
            f"Latency, ms: {configuration_name(configuration)}",
            LATENCY_COLUMNS,
            tuple(_latency_row(row) for row in rows),
            2,
            LATENCY_NOTE,
        )
        for configuration, rows in latency_configurations(summary)
    ]


LATENCY_COLUMNS = (
    *("NFE", "component", "n", "min", "median", "95 % interval", "p90", "p99", "95 % interval of p99"),
    *("throttled", "peak memory"),
)

LATENCY_NOTE = (
    "Percentiles over all raw samples. 95 % intervals: order statistics (binomial), which take samples as independent; "
    f"a median needs {samples_needed(0.5)} samples for one, p99 {samples_needed(0.99)}. e2e is timed without looking "
    "inside; components come from a pass of their own that synchronises around each. denoise: all steps of one "
    "decision; outside loop: preprocess + vision + prefix + postprocess of one decision."
)


def latency_configurations(summary: Summary) -> list[tuple[dict[str, Any], Records]]:
    """Latency rows by configuration."""
    grouped = summary.latency.groupby(CONFIGURATION, dropna=False, sort=True)
    return [(dict(zip(CONFIGURATION, key, strict=True)), records(rows)) for key, rows in grouped]


def configuration_name(configuration: Mapping[str, Any]) -> str:
    """Name a configuration: "flow on cpu, float32, eager, batch 1"; what is not known is left out."""
    named = [f"{text(configuration['policy_id'])} on {text(configuration['hardware'])}"]
    named += [str(configuration[key]) for key in ("dtype", "compile") if known(configuration[key])]
    named += [f"batch {int(configuration['batch_size'])}"] if known(configuration["batch_size"]) else []
    return ", ".join(named)


def end_to_end(table: Table) -> Table:
    """The e2e rows of a latency table."""
    return replace(table, rows=tuple(row for row in table.rows if row[1] == "e2e"))


def inside(table: Table) -> Table:
    """The component rows of a latency table."""
    return replace(table, rows=tuple(row for row in table.rows if row[1] != "e2e"))


def _latency_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        count(row["nfe"]),
        str(row["component"]).replace("_", " "),
        count(row["n"]),
        number(row["min"]),
        number(row["median"]),
        number_interval(row["median_low"], row["median_high"]),
        number(row["p90"]),
        number(row["p99"]),
        number_interval(row["p99_low"], row["p99_high"]),
        count(row["throttled"]),
        gibibytes(row["memory_bytes"]),
    )


def prefix_table(summary: Summary) -> Table:
    """Derived against measured prefix and denoise step: three rows per configuration."""
    rows = tuple(line for row in records(summary.prefix) for line in _prefix_rows(row))
    columns = ("configuration", "time", "derived", "95 % interval", "measured", "derived / measured", "residual")
    return Table("Prefix and denoise step, ms: derived against measured", columns, rows, 2, PREFIX_NOTE)


def _prefix_rows(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    name = configuration_name(row)
    step = ("step", "measured_step", "each denoise step", number(row["residual"]))
    outside = ("prefix", "measured_outside", "outside the loop", "")
    lines = [
        (
            name,
            label,
            number(row[derived]),
            number_interval(row[f"{derived}_low"], row[f"{derived}_high"]),
            number(row[measured]),
            number(row[derived] / row[measured]) if known(row[measured]) and row[measured] > 0 else NONE,
            residual,
        )
        for derived, measured, label, residual in (step, outside)
    ]
    return [*lines, (name, "of it vision + prefix", "", "", number(row["measured_prefix"]), "", "")]


PREFIX_NOTE = (
    "Derived: the line e2e = outside + step × NFE through the e2e medians, with 95 % bootstrap intervals; its "
    "intercept is all time that does not depend on the NFE. Measured: medians of what the probe timed inside; outside "
    "the loop is preprocess + vision + prefix + postprocess. residual: largest distance of an e2e median from the "
    "line; if it is large, a line is no model of this device."
)


def decision_table(summary: Summary) -> Table:
    """How decisions were served in closed loop."""
    rows = tuple(
        (
            named(row, summary),
            text(row["hardware"]),
            count(row["n"]),
            number(row["queue_median"]),
            number(row["queue_p99"]),
            number(row["infer_median"]),
            number(row["infer_p99"]),
            number(row["transport_median"]),
            number(row["transport_p99"]),
            number(row["batch_mean"]),
            count(row["batch_max"]),
        )
        for row in records(summary.decisions)
    )
    columns = ("policy", "hardware", "decisions", "queue p50", "queue p99", "infer p50", "infer p99", "transport p50")
    note = (
        "queue: from the request to the start of its batch. infer: the batch's inference. transport: the rest of the "
        "round trip to a policy server. batch: mean over decisions."
    )
    return Table("Decisions in closed loop, ms", (*columns, "transport p99", "batch", "largest"), rows, 2, note)


def run_table(ledger: Ledger) -> Table:
    """The runs of a ledger."""
    rows = tuple(
        (
            text(row["run_id"]),
            text(row["status"]),
            moment(row["started_at"]),
            moment(row["ended_at"]),
            text(row["git_revision"]),
            text(row["protocol_sha256"])[:12],
        )
        for row in records(ledger.runs)
    )
    return Table("Runs", ("run", "status", "started", "ended", "git revision", "protocol"), rows, 6)


def policy_table(ledger: Ledger) -> Table:
    """What ran: each policy's checkpoint, digest of its weights, and dtype."""
    columns = ["policy_id", "checkpoint", "checkpoint_sha256", "dtype"]
    rows = tuple(
        (text(row["policy_id"]), text(row["checkpoint"]), text(row["checkpoint_sha256"])[:12], text(row["dtype"]))
        for row in records(ledger.episodes[columns].drop_duplicates())
    )
    return Table("Policies", ("policy", "checkpoint", "sha256 of the weights", "dtype"), rows, 4)


def origin_table(summary: Summary) -> Table:
    """Where policies came from and how they were served, as they said it themselves."""
    rows = tuple(
        (label, key, value) for label, record in summary.records.items() for key, value in _origin_facts(record)
    )
    return Table("Origin of policies", ("policy", "key", "value"), rows, 3)


def _origin_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [(str(key), str(value)) for key, value in (record.get("provenance") or {}).items()]
    serving = dict(record.get("serving") or {})
    measured = serving.pop("measured_ms", {})
    facts += [(f"serving: {key}", str(value)) for key, value in serving.items()]
    if measured:
        ordered = sorted(measured.items(), key=lambda item: int(item[0]))
        facts.append(("serving: ms by batch", ", ".join(f"{size}: {number(ms)}" for size, ms in ordered)))
    return facts


def node_table(ledger: Ledger) -> Table:
    """The machines that did the work, with the ceilings measured on them."""
    rows = tuple(
        (
            text(row["node_id"]),
            text(row["hardware"]),
            text(row["cpu"]),
            count(row["cores"]),
            gibibytes(row["memory_bytes"]),
            text(row["accelerator"]),
            text(row["driver"]),
            number(row["copy_gb_s"]),
            number(row["matmul_tflop_s"]),
            number(row["launch_us"]),
        )
        for row in records(ledger.nodes.drop_duplicates("node_id", keep="last"))
    )
    columns = ("node", "hardware", "CPU", "cores", "memory", "accelerator", "driver")
    note = (
        "Copy bandwidth (read + write), matrix product rate and launch cost were measured on the node, not looked up."
    )
    return Table("Nodes", (*columns, "copy GB/s", "matmul TFLOP/s", "launch µs"), rows, 3, note)


def version_table(ledger: Ledger) -> Table:
    """Versions of software by run and node, one row per package; differing versions are all named."""
    found: dict[str, dict[str, None]] = {}
    for versions in [*ledger.runs["versions"], *ledger.nodes["versions"]]:
        for name, version in (versions or {}).items():
            found.setdefault(name, {})[str(version)] = None
    rows = tuple((name, " and ".join(found[name])) for name in sorted(found))
    return Table("Versions", ("package", "version"), rows, 2)


def protocol_tables(ledger: Ledger) -> list[Table]:
    """The protocol manifests, which decide a score besides the checkpoint: one table per suite."""
    manifests: dict[str, dict[str, Any]] = {}
    for protocol in ledger.runs["protocol"].dropna():
        manifests |= {suite: manifest for suite, manifest in json.loads(protocol).items() if isinstance(manifest, dict)}
    return [
        Table(
            f"Protocol: {suite}",
            ("key", "value"),
            tuple((key, value if isinstance(value, str) else json.dumps(value)) for key, value in manifest.items()),
            2,
        )
        for suite, manifest in manifests.items()
    ]


def _with_role(name: str, policy_id: str, summary: Summary) -> str:
    role = summary.roles.get(policy_id)
    return f"{name} ({role} control)" if role else name
