"""The one list of what a report holds, for people and for other tools; every rendering goes by it, in this order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.analysis import aggregates
from harness.analysis.aggregates import Aggregate
from harness.analysis.summary import Summary
from harness.report.names import VariantNames, variant_names
from harness.report.tables import provenance
from harness.report.tables.canaries import canary_table, duplicate_table
from harness.report.tables.checks import check_table
from harness.report.tables.devices import device_tables
from harness.report.tables.latency import decision_table, latency_tables, prefix_table
from harness.report.tables.robustness import robustness_tables
from harness.report.tables.roofline import claim_table, roofline_table, sweep_table
from harness.report.tables.success import error_table, paired_table, retry_table, success_table, task_tables
from harness.report.tables.table import Table
from harness.report.tables.tiers import tier_table
from harness.report.tables.time import (
    phase_table,
    throughput_table,
    time_table,
    utilisation_table,
    worker_table,
)
from harness.report.tables.wall_clock import wall_table


@dataclass(frozen=True)
class Told:
    """A summary, and the names that its policies go by."""

    summary: Summary

    @cached_property
    def names(self) -> VariantNames:
        """Names of policies at their NFE; only where a table shows them."""
        return variant_names(self.summary)


@dataclass(frozen=True)
class Section:
    """One subject of a report."""

    tables: Callable[[Told], list[Table]]
    """For people: terminal, Markdown and HTML show them."""
    aggregate: Aggregate | None = None
    """For other tools: JSON and `summary/*.parquet` hold it; None for what they read in the ledger itself."""


SECTIONS: Mapping[str, Section] = {
    "success": Section(lambda told: [success_table(told.summary, told.names)], aggregates.SUCCESS),
    "tasks": Section(lambda told: task_tables(told.summary, told.names), aggregates.TASKS),
    "paired": Section(lambda told: [paired_table(told.summary, told.names)], aggregates.PAIRED),
    "robustness": Section(lambda told: robustness_tables(told.summary, told.names), aggregates.ROBUSTNESS),
    "tiers": Section(lambda told: [tier_table(told.summary, told.names)] if len(told.summary.ledger.latency) else []),
    "devices": Section(lambda told: device_tables(told.summary), aggregates.DEVICES),
    "wall": Section(lambda told: [wall_table(told.summary)], aggregates.WALL),
    "canaries": Section(lambda told: [canary_table(told.summary), duplicate_table(told.summary, told.names)]),
    "errors": Section(lambda told: [error_table(told.summary, told.names), retry_table(told.summary, told.names)]),
    "time": Section(lambda told: [time_table(told.summary, told.names)], aggregates.TIME),
    "throughput": Section(
        lambda told: [
            throughput_table(told.summary),
            worker_table(told.summary),
            phase_table(told.summary),
            utilisation_table(told.summary),
        ]
    ),
    "sweep": Section(lambda told: [sweep_table(told.summary)]),
    "latency": Section(lambda told: latency_tables(told.summary), aggregates.LATENCY),
    "checks": Section(lambda told: [check_table(told.summary)]),
    "prefix": Section(lambda told: [prefix_table(told.summary)], aggregates.PREFIX),
    "roofline": Section(lambda told: [roofline_table(told.summary)], aggregates.ROOFLINE),
    "claims": Section(lambda told: [claim_table(told.summary)]),
    "decisions": Section(lambda told: [decision_table(told.summary, told.names)]),
    "runs": Section(lambda told: [provenance.run_table(told.summary)]),
    "policies": Section(lambda told: [provenance.policy_table(told.summary)]),
    "origin": Section(lambda told: [provenance.origin_table(told.summary)]),
    "nodes": Section(lambda told: [provenance.node_table(told.summary)]),
    "versions": Section(lambda told: [provenance.version_table(told.summary)]),
    "protocols": Section(lambda told: provenance.protocol_tables(told.summary)),
}
"""Every section that a report may have, in reading order."""

PROVENANCE = ("runs", "policies", "origin", "nodes", "versions", "protocols")
"""Sections of a written report only: who sits at a terminal knows them."""

PREFIX = ("sweep", "prefix", "roofline", "claims")
"""Sections of `harness prefix`."""

REPORT = tuple(name for name in SECTIONS if name not in (*PROVENANCE, "sweep", "claims"))
"""Sections of every report."""

AGGREGATES: Mapping[str, Aggregate] = {
    name: section.aggregate for name, section in SECTIONS.items() if section.aggregate is not None
}
"""The typed tables of the list, by the name of their file."""


def contents(summary: Summary, wanted: Collection[str] = (*REPORT, *PROVENANCE)) -> dict[str, list[Table]]:
    """Build sections of a report; only what they show is computed.

    Args:
        summary: What they show.
        wanted: Names of sections.

    Returns:
        Name → tables that have rows, in reading order; a section without one is left out.
    """
    told = Told(summary)
    built = {
        name: [table for table in section.tables(told) if table.rows]
        for name, section in SECTIONS.items()
        if name in wanted
    }
    return {name: tables for name, tables in built.items() if tables}
