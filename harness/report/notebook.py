"""Ledgers, comparisons, gates and plans as pieces of HTML for a notebook's cell: the terminal's tables, no script."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from html import escape

from harness.analysis.paired.compare import Comparison
from harness.analysis.paired.matrix import Matrix
from harness.analysis.summary import Summary
from harness.gate.judge import GateResult
from harness.ledger import Ledger
from harness.planning.suite_plan import SuitePlan
from harness.report.answers import verdict
from harness.report.contents import contents
from harness.report.gate.answers import comparison_verdict, gate_reasons, matrix_verdict
from harness.report.gate.tables import comparison_tables, matrix_pairs_table, matrix_table, rule_table
from harness.report.names import variant_names
from harness.report.opening import opening
from harness.report.tables.plan import plan_sentence, plan_tables
from harness.report.tables.table import Table

SECTIONS = ("success", "paired", "errors", "latency", "prefix", "decisions", "runs")
"""Of a ledger; `harness report --html` has all."""
MAX_ROWS = 60
"""Rows of a table in a cell; the frames have all."""


@singledispatch
def html_of(content: object) -> str:
    """Render what a notebook shows.

    Args:
        content: A `Ledger`, `Comparison`, `Matrix`, `GateResult` or `SuitePlan`.

    Raises:
        TypeError: Something else.
    """
    raise TypeError(f"{type(content).__name__} has no HTML representation.")


@html_of.register
def _ledger(content: Ledger) -> str:
    summary = Summary(content)
    said = opening(summary)
    notices = [f"{notice.title}. {notice.text}" for notice in said.notices]
    tables = [table for found in contents(summary, SECTIONS).values() for table in found]
    return _page(verdict(summary, variant_names(summary)), [f"{content.path}: {said.sentence}", *notices], tables)


@html_of.register
def _comparison(content: Comparison) -> str:
    return _page(comparison_verdict(content), content.notices, comparison_tables(content))


@html_of.register
def _matrix(content: Matrix) -> str:
    return _page(matrix_verdict(content), content.notices, [matrix_table(content), matrix_pairs_table(content)])


@html_of.register
def _gate(content: GateResult) -> str:
    first = f"{content.verdict.value}: {content.rules.name}: {gate_reasons(content)}"
    return _page(first, content.comparison.notices, [rule_table(content), *comparison_tables(content.comparison)])


@html_of.register
def _plan(content: SuitePlan) -> str:
    return _page(plan_sentence(content), content.forecast.notes, plan_tables(content))


def _page(first: str, sentences: Iterable[str], tables: Iterable[Table]) -> str:
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    return f"<div><p><strong>{escape(first)}</strong></p>{said}{''.join(map(table_html, tables))}</div>"


def table_html(table: Table) -> str:
    """One table under its title, key above and note below; text to the left, figures to the right."""

    def cells(row: Iterable[str], tag: str) -> str:
        return "".join(
            f'<{tag} style="text-align:{"left" if place < table.left else "right"}">{escape(cell)}</{tag}>'
            for place, cell in enumerate(row)
        )

    rows = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in table.rows[:MAX_ROWS])
    key = "".join(f"<div>{escape(line)}</div>" for line in table.key)
    more = f"{len(table.rows) - MAX_ROWS} more rows. " if len(table.rows) > MAX_ROWS else ""
    note = f"<div><small>{escape(more + table.note)}</small></div>" if more or table.note else ""
    return (
        f"<table><caption>{escape(table.title)}{key}</caption><thead><tr>{cells(table.columns, 'th')}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{note}"
    )
