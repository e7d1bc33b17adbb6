"""The report as Markdown, for a pull request or a README."""

from __future__ import annotations

import re

from harness.analysis.summary import Summary
from harness.ledger import Ledger
from harness.report.contents import contents
from harness.report.opening import opening
from harness.report.tables.table import Table


def render_markdown(content: Ledger | Summary) -> str:
    """Render a ledger, or its summary, as GitHub-flavoured Markdown."""
    summary = Summary.of(content)
    said = opening(summary)
    blocks = [f"# {escape_markdown(said.title)}", escape_markdown(said.sentence)]
    blocks += [f"> **{escape_markdown(notice.title)}.** {escape_markdown(notice.text)}" for notice in said.notices]
    blocks += [table_markdown(table) for tables in contents(summary).values() for table in tables]
    return "\n\n".join(blocks) + "\n"


def table_markdown(table: Table) -> str:
    """A table under its title, with its key above and its note below."""
    rule = [":---" if place < table.left else "---:" for place in range(len(table.columns))]
    lines = ["| " + " | ".join(map(escape_markdown, cells)) + " |" for cells in (table.columns, *table.rows)]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    key = "".join(f"{escape_markdown(line)}\n\n" for line in table.key)
    note = f"\n\n{escape_markdown(table.note)}" if table.note else ""
    return f"## {escape_markdown(table.title)}\n\n{key}" + "\n".join(lines) + note


def escape_markdown(value: str) -> str:
    """Show text as it is: no markup, no HTML, no line break that would end a table's row."""
    flat = " ".join(value.split())
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", flat).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
