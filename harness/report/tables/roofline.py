"""Tables of `harness prefix`: decisions over NFE, floors and verdicts, and claims that the data reject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.latency.roofline import BOUNDS, MAJORITY
from harness.analysis.summary import Summary
from harness.report.format import NONE, count, known, number, text
from harness.report.names import configuration_names, identity_of
from harness.report.tables.table import Table, records


def sweep_table(summary: Summary) -> Table:
    """T(NFE): one row per configuration, one column per NFE, and the speed-up from the most to the fewest steps."""
    sweep = summary.sweep[summary.sweep["nfe"].notna()]
    short = configuration_names(records(sweep))
    values = sorted(int(value) for value in sweep["nfe"].unique())
    rows = []
    for key, group in sweep.groupby(CONFIGURATION, dropna=False, sort=True):
        medians = dict(zip(group["nfe"].astype(int), group["median"], strict=True))
        best = group["speedup"].max() if len(group) > 1 else None
        name = short.names[identity_of(dict(zip(CONFIGURATION, key, strict=True)))]
        rows.append((name, *(number(medians.get(value)) for value in values), f"{number(best)}×" if best else NONE))
    columns = ("configuration", *(f"T({value})" for value in values), "speed-up")
    return Table("Decisions over NFE, median ms", columns, tuple(rows), 1, SWEEP_NOTE, short.key)


SWEEP_NOTE = "T(N): median end-to-end time at N function evaluations. speed-up: the most evaluations over the fewest."


def roofline_table(summary: Summary) -> Table:
    """Floors, shares and verdict of each component."""
    judged = records(summary.roofline) if len(summary.ledger.counts) else []
    short = configuration_names(judged)
    rows = tuple(_roofline_row(row, short.names[identity_of(row)]) for row in judged)
    columns = ("configuration", "NFE", "component", "verdict", "ms a call", "GFLOP", "MB", "launches", "busy")
    floors = tuple(f"{bound} floor" for bound in BOUNDS)
    return Table(
        "What limits each component: floors, ms (share of the time)",
        (*columns, *floors),
        rows,
        4,
        ROOFLINE_NOTE,
        short.key,
    )


ROOFLINE_NOTE = (
    "Floors from rates measured on the node and from operators counted in the policy. bandwidth: bytes (parameters "
    "once by stored dtype, cache, inputs and outputs of products) / copy rate. compute: FLOPs / matmul rate of their "
    "number format. launch: time in which the device stood idle for the host, where a profiler told how long it was "
    f"busy; else launches × the cost of one. A floor that explains {MAJORITY:.0%} of the time or more is the verdict; "
    "mixed: none does; unknown: a figure is missing. launches: kernels on a GPU, operators on a CPU."
)


def _roofline_row(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return (
        name,
        count(row["nfe"]),
        str(row["component"]).replace("_", " "),
        text(row["verdict"]),
        number(row["wall"]),
        number(row["flops"] / 1e9 if known(row["flops"]) else None),
        number(row["bytes"] / 1e6 if known(row["bytes"]) else None),
        count(row["kernels"]),
        number(row["busy"]),
        *(_floor(row[bound], row[f"{bound}_share"]) for bound in BOUNDS),
    )


def _floor(value: Any, share: Any) -> str:
    return f"{number(value)} ({100 * share:.0f} %)" if known(value) and known(share) else NONE


def claim_table(summary: Summary) -> Table:
    """What people say of each component, held against the data."""
    short = configuration_names(claim.configuration for claim in summary.claims)
    rows = tuple(
        (
            short.names[identity_of(claim.configuration)],
            f"{claim.component.replace('_', ' ')} is {claim.claim}",
            claim.answer.upper() if claim.answer == "rejected" else claim.answer,
            claim.reason,
        )
        for claim in summary.claims
    )
    return Table("Claims", ("configuration", "claim", "the data say", "because"), rows, 4, "", short.key)
