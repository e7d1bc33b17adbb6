"""The report on a terminal: plain text when nobody watches, and never dependent on colour."""

from __future__ import annotations

from harness.analysis.summary import Summary
from harness.ledger import Ledger
from harness.report.answers import verdict
from harness.report.contents import REPORT, contents
from harness.report.layout import lay_out
from harness.report.names import variant_names
from harness.report.opening import opening
from harness.report.tables.table import Table
from harness.screen import Screen

_STYLES = {"alarm": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS = {"alarm": "!!!", "warning": "!", "note": "i"}


def render_terminal(content: Ledger | Summary, screen: Screen) -> None:
    """Print a ledger's verdict in one line, what was run, what has to be known of it, and its tables.

    Args:
        content: From `harness.read`, or its summary.
        screen: Where to print. When it is no terminal and COLUMNS is not set, lines are as long as they need to be:
            nothing is cut or folded.
    """
    summary = Summary.of(content)
    said = opening(summary)
    screen.say((verdict(summary, variant_names(summary)), "bold"), prose=True)
    screen.say((said.title, "bold"), f": {said.sentence}", prose=True)
    for notice in said.notices:
        mark, style = _MARKS[notice.level], _STYLES[notice.level]
        screen.say((f"{mark} {notice.title}.", style), f" {notice.text}", prose=True)
    for tables in contents(summary, REPORT).values():
        for table in tables:
            print_table(table, screen)


def print_table(table: Table, screen: Screen) -> None:
    """Print one table, its columns aligned with spaces and within the screen's width, so that no number is cut."""
    screen.say()
    screen.say((table.title, "bold"), prose=True)
    for line in table.key:
        screen.say(line, prose=True)
    for place, block in enumerate(lay_out(table, screen.width)):
        if place:
            screen.say()
        for number, line in enumerate(block.lines):
            screen.say((line, "underline") if number < block.header else line)
    if table.note:
        screen.say((table.note, "dim"), prose=True)
