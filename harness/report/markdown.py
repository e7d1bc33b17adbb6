"""The report as Markdown, for a pull request or a README."""

from __future__ import annotations

import re

from harness.ledger import Ledger
from harness.report.summary import Summary, summarise
from harness.report.tables.checks import check_table
from harness.report.tables.ledger import (
    decision_table,
    error_table,
    latency_tables,
    node_table,
    origin_table,
    policy_table,
    prefix_table,
    protocol_tables,
    run_table,
    success_table,
    task_tables,
    throughput_table,
    time_table,
    version_table,
)
from harness.report.tables.table import Table


def render_markdown(ledger: Ledger) -> str:
    """Render a ledger as GitHub-flavoured Markdown."""
    summary = summarise(ledger)
    blocks = [f"# {escape_markdown(summary.title)}", escape_markdown(summary.sentence)]
    blocks += [f"> **{escape_markdown(notice.title)}.** {escape_markdown(notice.text)}" for notice in summary.notices]
    blocks += [table_markdown(table) for table in _tables(summary) if table.rows]
    return "\n\n".join(blocks) + "\n"


def _tables(summary: Summary) -> list[Table]:
    ledger = summary.ledger
    return [
        success_table(summary),
        *task_tables(summary),
        error_table(summary),
        time_table(summary),
        throughput_table(summary),
        *latency_tables(summary),
        check_table(ledger),
        prefix_table(summary),
        decision_table(summary),
        run_table(ledger),
        policy_table(ledger),
        origin_table(summary),
        node_table(ledger),
        version_table(ledger),
        *protocol_tables(ledger),
    ]


def table_markdown(table: Table) -> str:
    """A table under its title, with its note."""
    rule = [":---" if place < table.left else "---:" for place in range(len(table.columns))]
    lines = ["| " + " | ".join(map(escape_markdown, cells)) + " |" for cells in (table.columns, *table.rows)]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    note = f"\n\n{escape_markdown(table.note)}" if table.note else ""
    return f"## {escape_markdown(table.title)}\n\n" + "\n".join(lines) + note


def escape_markdown(value: str) -> str:
    """Show text as it is: no markup, no HTML, no line break that would end a table's row."""
    flat = " ".join(value.split())
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", flat).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
