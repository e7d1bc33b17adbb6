"""The table that stands beside latencies: energy, compile time, throttling, and how far a variant's answers are off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.summary import Summary
from harness.report.format import NONE, count, known, number, number_interval, percent, text
from harness.report.names import configuration_names, identity_of
from harness.report.tables.table import Table, records
from harness.spec.likeness import LARGEST_SHARE, LEAST_COSINE

FAR = "DIFFERS"
"""Mark of a variant whose answers are not its reference's."""

CHECK_NOTE = (
    "J: the device's energy in one decision, its mean; 95 %: over launches, none with one. cool: median over the "
    "samples that are not known to be throttled, and their number. parts: sum of the components over e2e (0.97 to 1.03 "
    "when they add up). compile: the first call "
    "beyond a usual one. cosine, largest: least cosine and largest difference to the reference (the same policy, "
    "eager, in the checkpoint's dtype) on the same observations and noise. of observation: root mean square difference "
    f"over that between answers to different observations. {FAR}: cosine below {LEAST_COSINE} or more than "
    f"{percent(LARGEST_SHARE)} of what an observation changes; its time is another policy's."
)


def check_table(summary: Summary) -> Table:
    """One row per configuration and NFE, for probes that recorded more than a time."""
    checks = summary.checks
    telling = checks[["energy_j", "compile_s", "cosine", "parts"]].notna().any(axis=1)
    told = records(checks[telling]) if len(checks) else []
    short = configuration_names(told)
    rows = tuple(_row(row, short.names[identity_of(row)]) for row in told)
    columns = ("configuration", "NFE", "median", "cool", "J", "95 %", "parts", "compile s")
    compared = ("cosine", "largest", "of observation", "mark")
    return Table(
        "Beside the latency: energy, checks and answers", (*columns, *compared), rows, 1, CHECK_NOTE, short.key
    )


def _row(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    throttled = int(row["n"]) - int(row["cool_n"])
    cool = number(row["median"]) if not throttled else f"{number(row['cool_median'])} ({count(row['cool_n'])})"
    return (
        name,
        count(row["nfe"]),
        number(row["median"]),
        cool,
        number(row["energy_j"]),
        number_interval(row["energy_low"], row["energy_high"]),
        number(row["parts"]),
        number(row["compile_s"]),
        f"{row['cosine']:.6f}" if known(row["cosine"]) else NONE,
        number(row["max_abs"]),
        percent(row["share"]) if known(row["share"]) else NONE,
        _mark(row),
    )


def _mark(row: Mapping[str, Any]) -> str:
    marks = [FAR] if known(row["far"]) and bool(row["far"]) else []
    marks += ["not alone"] if known(row["shared"]) and bool(row["shared"]) else []
    return ", ".join(marks) or (text("same") if known(row["far"]) else NONE)
