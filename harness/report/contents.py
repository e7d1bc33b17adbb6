"""The one list of what a report holds: every rendering goes through it, in this order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.analysis.summary import Summary
from harness.report.names import VariantNames, variant_names
from harness.report.tables.checks import check_table
from harness.report.tables.latency import decision_table, latency_tables, prefix_table
from harness.report.tables.provenance import (
    node_table,
    origin_table,
    policy_table,
    protocol_tables,
    run_table,
    version_table,
)
from harness.report.tables.roofline import claim_table, roofline_table, sweep_table
from harness.report.tables.success import error_table, paired_table, success_table, task_tables
from harness.report.tables.table import Table
from harness.report.tables.time import throughput_table, time_table


@dataclass(frozen=True)
class Told:
    """A summary, and the names that its policies go by."""

    summary: Summary

    @cached_property
    def names(self) -> VariantNames:
        """Names of policies at their NFE; only where a table shows them."""
        return variant_names(self.summary)


SECTIONS: Mapping[str, Callable[[Told], list[Table]]] = {
    "success": lambda told: [success_table(told.summary, told.names)],
    "tasks": lambda told: task_tables(told.summary, told.names),
    "paired": lambda told: [paired_table(told.summary, told.names)],
    "errors": lambda told: [error_table(told.summary, told.names)],
    "time": lambda told: [time_table(told.summary, told.names)],
    "throughput": lambda told: [throughput_table(told.summary)],
    "sweep": lambda told: [sweep_table(told.summary)],
    "latency": lambda told: latency_tables(told.summary),
    "checks": lambda told: [check_table(told.summary)],
    "prefix": lambda told: [prefix_table(told.summary)],
    "roofline": lambda told: [roofline_table(told.summary)],
    "claims": lambda told: [claim_table(told.summary)],
    "decisions": lambda told: [decision_table(told.summary, told.names)],
    "runs": lambda told: [run_table(told.summary)],
    "policies": lambda told: [policy_table(told.summary)],
    "origin": lambda told: [origin_table(told.summary)],
    "nodes": lambda told: [node_table(told.summary)],
    "versions": lambda told: [version_table(told.summary)],
    "protocols": lambda told: protocol_tables(told.summary),
}
"""Every section that a report may have, in reading order."""

PROVENANCE = ("runs", "policies", "origin", "nodes", "versions", "protocols")
"""Sections of a written report only: who sits at a terminal knows them."""

PREFIX = ("sweep", "prefix", "roofline", "claims")
"""Sections of `harness prefix`."""

REPORT = tuple(name for name in SECTIONS if name not in (*PROVENANCE, "sweep", "claims"))
"""Sections of every report."""


def contents(summary: Summary, wanted: Collection[str] = (*REPORT, *PROVENANCE)) -> dict[str, list[Table]]:
    """Build sections of a report; only what they show is computed.

    Args:
        summary: What they show.
        wanted: Names of sections.

    Returns:
        Name → tables that have rows, in reading order; a section without one is left out.
    """
    told = Told(summary)
    built = {name: [table for table in build(told) if table.rows] for name, build in SECTIONS.items() if name in wanted}
    return {name: tables for name, tables in built.items() if tables}
