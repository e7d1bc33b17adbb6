"""The report on a terminal: plain text when nobody watches, and never dependent on colour."""

from __future__ import annotations

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.table import Table as RichTable
from rich.text import Text

from harness.ledger import Ledger
from harness.report.summary import Notice, summarise
from harness.report.tables.checks import check_table
from harness.report.tables.ledger import (
    decision_table,
    error_table,
    latency_tables,
    prefix_table,
    success_table,
    task_tables,
    throughput_table,
    time_table,
)
from harness.report.tables.table import Table
from harness.screen import Screen, verbatim

_STYLES = {"alarm": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS = {"alarm": "!!!", "warning": "!", "note": "i"}


def render_terminal(ledger: Ledger, screen: Screen) -> None:
    """Print a ledger's tables.

    Args:
        ledger: From `harness.read`.
        screen: Where to print. When it is no terminal, lines are as long as they need to be: nothing is cut or folded.
    """
    summary = summarise(ledger)
    screen.say((summary.title, "bold"), f": {summary.sentence}", prose=True)
    for notice in summary.notices:
        _print_notice(notice, screen)
    tables = [
        success_table(summary),
        *task_tables(summary),
        error_table(summary),
        time_table(summary),
        throughput_table(summary),
        *latency_tables(summary),
        check_table(ledger),
        prefix_table(summary),
        decision_table(summary),
    ]
    for table in tables:
        if table.rows:
            print_table(table, screen)


def _print_notice(notice: Notice, screen: Screen) -> None:
    mark, style = _MARKS[notice.level], _STYLES[notice.level]
    screen.say((f"{mark} {notice.title}.", style), f" {notice.text}", prose=True)


def print_table(table: Table, screen: Screen) -> None:
    """Print one table: boxed on a terminal, aligned with spaces elsewhere."""
    screen.say()
    if not screen.is_terminal:
        screen.say(_aligned(table))
        return
    rendered = RichTable(
        title=verbatim((table.title, "bold")),
        title_justify="left",
        caption=verbatim((table.note, "dim")) if table.note else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for place, column in enumerate(table.columns):
        numeric = place >= table.left
        rendered.add_column(verbatim(column), justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in table.rows:
        # Task names are sentences: the id beside them tells them apart when a line is too short.
        rendered.add_row(
            *(
                _one_line(cell) if column == "task" else verbatim(cell)
                for column, cell in zip(table.columns, row, strict=True)
            )
        )
    screen.console.print(rendered)


def _one_line(cell: str) -> Text:
    text = verbatim(cell)
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _aligned(table: Table) -> str:
    """Columns aligned with spaces, two between them: what a log or a pipe wants."""
    lines = [table.columns, *table.rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    written = [table.title]
    for line in lines:
        cells = [
            set_cell_size(cell, width) if place < table.left else " " * (width - cell_len(cell)) + cell
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        written.append("  ".join(cells).rstrip())
    return "\n".join([*written, *([table.note] if table.note else [])])
