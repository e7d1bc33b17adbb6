"""Latency by component, the line over NFE, and decisions in closed loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.latency.launches import WITHIN, least_samples
from harness.analysis.latency.percentiles import CONFIGURATION, samples_needed
from harness.analysis.summary import Summary
from harness.report.format import NONE, count, gibibytes, known, number, number_interval, text
from harness.report.names import VariantNames, configuration_name, configuration_names, identity_of
from harness.report.tables.table import Records, Table, records


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
    *("NFE", "component", "n", "launches", "min", "median", "95 % interval", "p90", "p99", "95 % interval of p99"),
    *("throttled", "peak memory"),
)


LATENCY_NOTE = (
    "Percentiles over all raw samples. 95 % intervals are of a launch's quantile: t on its log over the launches, each "
    f"a fresh process; p99 needs {least_samples(0.99)} samples a launch. With one launch they hold {WITHIN} (order "
    f"statistics; a median needs {samples_needed(0.5)} samples, p99 {samples_needed(0.99)}): another launch may differ "
    "by more. e2e is timed without looking inside; components come from a pass of their own that synchronises "
    "around each. denoise: all steps of one decision; outside loop: preprocess + vision + prefix + postprocess of one "
    "decision."
)


def latency_configurations(summary: Summary) -> list[tuple[dict[str, Any], Records]]:
    """Latency rows by configuration."""
    grouped = summary.latency.groupby(CONFIGURATION, dropna=False, sort=True)
    return [(dict(zip(CONFIGURATION, key, strict=True)), records(rows)) for key, rows in grouped]


def _latency_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        count(row["nfe"]),
        str(row["component"]).replace("_", " "),
        count(row["n"]),
        launches_text(row["launches"]),
        number(row["min"]),
        number(row["median"]),
        number_interval(row["median_low"], row["median_high"]),
        number(row["p90"]),
        number(row["p99"]),
        number_interval(row["p99_low"], row["p99_high"]),
        count(row["throttled"]),
        gibibytes(row["memory_bytes"]),
    )


def launches_text(launches: int) -> str:
    """Number of launches, with what one means."""
    return count(launches) if launches > 1 else f"{count(launches)}: {WITHIN}"


def prefix_table(summary: Summary) -> Table:
    """Derived against measured prefix and denoise step: three rows per configuration."""
    short = configuration_names(records(summary.prefix))
    rows = tuple(line for row in records(summary.prefix) for line in _prefix_rows(row, short.names[identity_of(row)]))
    columns = (
        "configuration",
        "launches",
        "time",
        "derived",
        "95 % interval",
        "measured",
        "derived / measured",
        "residual",
    )
    return Table("Prefix and denoise step, ms: derived against measured", columns, rows, 3, PREFIX_NOTE, short.key)


def _prefix_rows(row: Mapping[str, Any], name: str) -> list[tuple[str, ...]]:
    step = ("step", "measured_step", "each denoise step", number(row["residual"]))
    outside = ("prefix", "measured_outside", "outside the loop", "")
    lines = [
        (
            name,
            launches_text(row["launches"]),
            label,
            number(row[derived]),
            number_interval(row[f"{derived}_low"], row[f"{derived}_high"]),
            number(row[measured]),
            number(row[derived] / row[measured]) if known(row[measured]) and row[measured] > 0 else NONE,
            residual,
        )
        for derived, measured, label, residual in (step, outside)
    ]
    return [*lines, (name, "", "of it vision + prefix", "", "", number(row["measured_prefix"]), "", "")]


PREFIX_NOTE = (
    "Derived: the line e2e = outside + step × NFE through the e2e medians, with 95 % intervals: t over the lines of "
    f"the launches, or, with one launch, a bootstrap that holds {WITHIN}; its intercept is all time that does not "
    "depend on the NFE. Measured: medians of what the probe timed inside; outside the loop is preprocess + vision + "
    "prefix + postprocess. residual: largest distance of an e2e median from the line; if it is large, a line is no "
    "model of this device."
)


def decision_table(summary: Summary, names: VariantNames) -> Table:
    """How decisions were served in closed loop."""
    rows = tuple(
        (
            names.of(row),
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
    return Table(
        "Decisions in closed loop, ms", (*columns, "transport p99", "batch", "largest"), rows, 2, note, names.key
    )
