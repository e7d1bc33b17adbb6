"""`harness prefix`: where a decision's time goes over NFE and devices, and what limits it."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.errors import UsageError
from harness.screen import Screen

EXAMPLES = examples(
    "harness prefix reports/latency",
    "harness prefix reports/h100 reports/h200 --markdown prefix.md",
    "harness prefix reports/h100 --json -",
)


def command(
    ledgers: Annotated[list[str], typer.Argument(metavar="LEDGER...", help="Ledgers of probes.")],
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
    json: Annotated[str, typer.Option(help="Write JSON to a file, or to standard output with '-'.")] = "",
) -> None:
    """Print T(NFE), the prefix derived and measured, and which floor limits each component.

    Three floors per component: bytes at the copy rate measured on the node, FLOPs at its matmul rate, and launches. The
    verdict is the floor that explains half of the time or more; a claim such as "the prefix is bandwidth-bound" is
    rejected where its floor does not.
    """
    from harness.analysis.summary import Summary
    from harness.ledger import Ledger
    from harness.report.contents import PREFIX, contents
    from harness.report.json import render_prefix_json
    from harness.report.markdown import table_markdown
    from harness.report.terminal import print_table

    # Read as far as is needed: no episode or decision, of which a ledger may hold millions.
    ledger = Ledger(*ledgers)
    if not len(ledger.latency):
        raise UsageError(f"{ledger.path} holds no latency samples; probe a policy first (`harness probe`).")
    summary = Summary(ledger)
    tables = [table for found in contents(summary, PREFIX).values() for table in found]
    write_texts(
        [
            (markdown, lambda: "\n\n".join(map(table_markdown, tables)) + "\n"),
            (json, lambda: render_prefix_json(summary)),
        ]
    )
    if "-" not in (markdown, json):
        for table in tables:
            print_table(table, Screen())
