"""`harness report`: what a person reads, from ledgers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.examples import examples

EXAMPLES = examples(
    "harness report reports/demo",
    "harness report reports/demo --html report.html",
    "harness report reports/a100 reports/spark --markdown -",
)


def command(
    ledgers: Annotated[list[str], typer.Argument(metavar="LEDGER...", help="Directories or URIs of ledgers.")],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained HTML file.")] = None,
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
) -> None:
    """Print success with intervals, where the time went, latency by component, and provenance."""
    from harness.ledger import read
    from harness.report import render_markdown, render_terminal, write_html

    ledger = read(*ledgers)
    if markdown == "-":
        typer.echo(render_markdown(ledger))
        return
    render_terminal(ledger, Console())
    if markdown:
        Path(markdown).write_text(render_markdown(ledger), encoding="utf-8")
        typer.echo(f"Markdown: {markdown}")
    if html is not None:
        write_html(ledger, html, command=report_command(ledgers, html))
        typer.echo(f"HTML: {html}")


def report_command(ledgers: list[str], html: Path) -> str:
    """The command that makes this report again."""
    return f"harness report {' '.join(ledgers)} --html {html}"
