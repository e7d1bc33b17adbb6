"""Tables of `harness prefix`: decisions over NFE, floors and verdicts, and claims that the data reject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.latency.prefix import nfe_sweep
from harness.analysis.latency.roofline import BOUNDS, MAJORITY, Claim, claims
from harness.ledger import Ledger
from harness.report.format import NONE, count, known, number, text
from harness.report.summary import Summary
from harness.report.tables.ledger import configuration_name, prefix_table
from harness.report.tables.table import Table, records


def prefix_tables(summary: Summary) -> list[Table]:
    """Everything that `harness prefix` prints."""
    return [
        sweep_table(summary.ledger),
        prefix_table(summary),
        roofline_table(summary.roofline),
        claim_table(claims(summary.roofline)),
    ]


def sweep_table(ledger: Ledger) -> Table:
    """T(NFE): one row per configuration, one column per NFE, and the speed-up from the most to the fewest steps."""
    sweep = nfe_sweep(ledger.latency)
    sweep = sweep[sweep["nfe"].notna()]
    values = sorted(int(value) for value in sweep["nfe"].unique())
    rows = []
    for key, group in sweep.groupby(CONFIGURATION, dropna=False, sort=True):
        medians = dict(zip(group["nfe"].astype(int), group["median"], strict=True))
        best = group["speedup"].max() if len(group) > 1 else None
        name = configuration_name(dict(zip(CONFIGURATION, key, strict=True)))
        rows.append((name, *(number(medians.get(value)) for value in values), f"{number(best)}×" if best else NONE))
    columns = ("configuration", *(f"T({value})" for value in values), "speed-up")
    return Table("Decisions over NFE, median ms", columns, tuple(rows), 1, SWEEP_NOTE if rows else "")


SWEEP_NOTE = "T(N): median end-to-end time at N function evaluations. speed-up: the most evaluations over the fewest."


def roofline_table(roofline: pd.DataFrame) -> Table:
    """Floors, shares and verdict of each component."""
    rows = tuple(_roofline_row(row) for row in records(roofline))
    columns = ("configuration", "NFE", "component", "verdict", "ms a call", "GFLOP", "MB", "launches", "busy")
    floors = tuple(f"{bound} floor" for bound in BOUNDS)
    return Table("What binds: floors, ms (share of the time)", (*columns, *floors), rows, 4, ROOFLINE_NOTE)


ROOFLINE_NOTE = (
    "Floors from rates measured on the node and from operators counted in the policy. bandwidth: bytes (parameters "
    "once by stored dtype, cache, inputs and outputs of products) / copy rate. compute: FLOPs / matmul rate of their "
    "number format. launch: time in which the device stood idle for the host, where a profiler told how long it was "
    f"busy; else launches × the cost of one. A floor that explains {MAJORITY:.0%} of the time or more is the verdict; "
    "mixed: none does; unknown: a figure is missing. launches: kernels on a GPU, operators on a CPU."
)


def _roofline_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        configuration_name(row),
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


def claim_table(found: list[Claim]) -> Table:
    """What people say of each component, held against the data."""
    rows = tuple(
        (
            configuration_name(claim.configuration),
            f"{claim.component.replace('_', ' ')} is {claim.claim}",
            claim.answer.upper() if claim.answer == "rejected" else claim.answer,
            claim.reason,
        )
        for claim in found
    )
    return Table("Claims", ("configuration", "claim", "the data say", "because"), rows, 4)
