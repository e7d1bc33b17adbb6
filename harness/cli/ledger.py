"""`harness ledger`: what concerns a ledger as a directory."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import tell_copied
from harness.cli.values import require_ledgers
from harness.cli.verb import Verb, tell_json
from harness.screen import Screen

app = typer.Typer(
    help="Copy ledgers, with every byte verified; compact and merge them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def _verbs() -> None:
    """Copy, compact and merge ledgers."""


@app.command(
    "copy",
    cls=Verb,
    epilog=examples(
        "harness ledger copy reports/night /mnt/archive/night",
        "harness ledger copy reports/night s3://bucket/night  # the same again goes on where it stopped",
    ),
)
def copy_command(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="Ledger: a path or URI.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where to: a path or URI; nothing there is touched.")],
) -> None:
    """Copy what the destination lacks, and verify each file by its SHA-256.

    Nothing at the destination is ever deleted or overwritten. Exit code 1 when a file there differs from the source's.
    """
    from harness.ledger.copy import copy_ledger

    tell_copied(ctx, copy_ledger(source, target), target)


@app.command("compact", cls=Verb, epilog=examples("harness ledger compact reports/night reports/night-compact"))
def compact_command(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="Ledger: a path or URI; it is not changed.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="A new directory or URI.")],
) -> None:
    """Write a finished ledger again with one Parquet part a table: fewer files, and faster to read."""
    from harness.ledger.compact import compact_ledger

    written = compact_ledger(source, target)
    tell_json(ctx, lambda: {"ledger": target, "rows": dict(written)})
    rows = ", ".join(f"{table} {count:,}" for table, count in written.items() if count)
    Screen().say(f"{target}: one part a table ({rows} rows)")


@app.command("merge", cls=Verb, epilog=examples("harness ledger merge reports/fleet reports/a100 reports/spark"))
def merge_command(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="OUT", help="A new directory or URI.")],
    sources: Annotated[list[str], typer.Argument(metavar="LEDGER...", help="Ledgers: paths or URIs; not changed.")],
) -> None:
    """Pool what machines brought that never saw each other: every run once, in one new ledger.

    Refuses what cannot stand in one table, and names it: other protocols, another checkpoint under the same name,
    an episode that ended differently.
    """
    require_ledgers(*sources)
    from harness.ledger.merge import merge_ledgers

    result = merge_ledgers(sources, target)
    tell_json(
        ctx,
        lambda: {
            "ledger": target,
            "runs": result.runs,
            "rows": dict(result.rows),
            "repeated": result.repeated,
        },
    )
    rows = ", ".join(f"{table} {count:,}" for table, count in result.rows.items() if count)
    once = f"; {result.repeated} stood in several and are there once" if result.repeated else ""
    Screen().say(f"{target}: {result.runs} runs of {len(sources)} ledgers ({rows} rows){once}")
