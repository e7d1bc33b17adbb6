"""`harness prefix`: where a decision's time goes over NFE and devices, and what limits it."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.cli.values import require_ledgers
from harness.cli.verb import json_target
from harness.errors import UsageError
from harness.screen import Screen

EXAMPLES = examples(
    "harness prefix reports/latency",
    "harness prefix reports/h100 reports/h200 --markdown prefix.md",
    "harness prefix published:a100-sxm-80gb published:dgx-spark-gb10  # does the prefix scale with bandwidth?",
    "harness prefix reports/h100 published:dgx-spark-gb10 --json -",
)


def command(
    ctx: typer.Context,
    ledgers: Annotated[
        list[str],
        typer.Argument(metavar="LEDGER...", help="Ledgers of probes, or published points: published:PROFILE[:STACK]."),
    ],
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
) -> None:
    """Print T(NFE), the prefix derived and measured, and which floor limits each component.

    Three floors per component: bytes at the copy rate measured on the node, FLOPs at its matmul rate, and launches. The
    verdict is the floor that explains half of the time or more; a claim such as "the prefix is bandwidth-bound" is
    rejected where its floor does not. Of several devices, claims across them too: the ratio of the times beside those
    of bandwidth, compute and launch rates.
    """
    require_ledgers(*(given for given in ledgers if not given.startswith("published:")))
    from harness.analysis.latency.scaling import PUBLISHED, device_points, scaling_claims
    from harness.analysis.summary import Summary
    from harness.ledger import Ledger
    from harness.report.answers import limits_verdict
    from harness.report.contents import PREFIX, contents
    from harness.report.json import render_prefix_json
    from harness.report.markdown import table_markdown
    from harness.report.tables.scaling import points_table, scaling_table
    from harness.report.terminal import print_table

    # Read as far as is needed: no episode or decision, of which a ledger may hold millions.
    paths = [given for given in ledgers if not given.startswith(PUBLISHED)]
    summary = Summary(Ledger(*paths)) if paths else None
    if summary is not None and not len(summary.ledger.latency):
        raise UsageError(f"{summary.ledger.path} holds no latency samples; probe a policy first (`harness probe`).")
    tables = [table for found in contents(summary, PREFIX).values() for table in found] if summary else []
    points = device_points(ledgers) if len(paths) < len(ledgers) or len(ledgers) > 1 else []
    claims = scaling_claims(points)
    tables += [table for table in (points_table(points), scaling_table(claims)) if table.rows]
    write_texts(
        [
            (markdown, lambda: "\n\n".join(map(table_markdown, tables)) + "\n"),
            (json_target(ctx), lambda: render_prefix_json(summary, claims)),
        ]
    )
    if markdown != "-":
        Screen().say((limits_verdict(summary, claims), "bold"), prose=True)
        for table in tables:
            print_table(table, Screen())
