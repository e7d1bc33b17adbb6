"""Cost beside success, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.summary import Summary
from harness.report.format import (
    NONE,
    count,
    known,
    number,
    number_interval,
    percent,
    percent_interval,
    points,
    probability,
    text,
    variant,
)
from harness.report.names import VariantNames
from harness.report.tables.table import Table, records


def tier_table(summary: Summary, names: VariantNames) -> Table:
    """One row per policy and device; none where fewer than two policies have both latency and success."""
    found = records(summary.tiers)
    if len({(row["policy_id"], text(row["nfe"])) for row in found}) < 2:
        return Table("Tiers", (), ())
    perturbed = any(known(row["drop"]) for row in found)
    rows = tuple(
        (
            names.of(row),
            text(row["hardware"]),
            _place(row),
            text(row["suites"]),
            number(row["weights_bytes"] / 1e6 if known(row["weights_bytes"]) else None),
            number(row["memory_bytes"] / 1e6 if known(row["memory_bytes"]) else None),
            number(row["median"]),
            number_interval(row["low"], row["high"]),
            f"{count(row['successes'])}/{count(row['n'])} = {percent(row['rate'])}",
            percent_interval(row["rate_low"], row["rate_high"]),
            *((points(-row["drop"]) if known(row["drop"]) else NONE,) if perturbed else ()),
        )
        for row in found
    )
    columns = (
        *("policy", "device", "Pareto front", "suites", "weights MB", "memory MB", "ms", "95 %", "solved", "95 %"),
        *(("perturbed",) if perturbed else ()),
    )
    return Table("Tiers: cost and success", columns, rows, 4, TIER_NOTE, names.key)


TIER_NOTE = (
    "ms: median decision at batch 1, of the fastest configuration. weights: parameters that a decision uses. front: no "
    "policy here takes no more time and solves as many. dominated: another takes no more time and solves more of the "
    "same episodes, its 95 % bounds (Tango) above 0. behind: it solves as many or more, but chance may explain that. "
    "perturbed: points lost on perturbed suites against the plain ones. Controls are left out."
)


def _place(row: Mapping[str, Any]) -> str:
    if row["place"] == "front":
        return "front"
    told = (
        f"{row['place']}: {variant(row['dominated_by'], row['dominated_by_nfe'])} {points(row['difference'])} points "
    )
    bounds = f"({points(row['difference_low'])} … {points(row['difference_high'])})"
    return (
        f"{told}{bounds} of {count(row['pairs'])} pairs, p {probability(row['p'])}, {number(row['faster'])} × as fast"
    )
