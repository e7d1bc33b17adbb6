"""`harness checkpoint`: folders of checkpoints to another disk or bucket and back."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import tell_copied
from harness.cli.verb import Verb

app = typer.Typer(
    help="Bring checkpoints to safety and back, with every byte verified.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.callback()
def _verbs() -> None:
    """Bring checkpoints to safety and back."""


@app.command(
    "push",
    cls=Verb,
    epilog=examples(
        "harness checkpoint push outputs/run7/checkpoints /mnt/archive/run7",
        "harness checkpoint push outputs/run7/checkpoints s3://bucket/run7  # the same again goes on where it stopped",
    ),
)
def push_command(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a checkpoint, or of many.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where to: a path or URI; nothing there is touched.")],
) -> None:
    """Copy what the destination lacks, verify each file by its SHA-256, and note the digests there (SHA256SUMS).

    Nothing is ever deleted or overwritten. Exit code 1 when a file there differs.
    """
    from harness.watch.checkpoints.transfer import push

    tell_copied(ctx, push(source, target), target)


@app.command("pull", cls=Verb, epilog=examples("harness checkpoint pull s3://bucket/run7 outputs/run7/checkpoints"))
def pull_command(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="What was pushed: a path or URI.")],
    target: Annotated[str, typer.Argument(metavar="DIR", help="Where to; nothing there is touched.")],
) -> None:
    """Copy back what is lacking here, verified against the digests that were noted when it was pushed.

    Nothing is ever deleted or overwritten. Exit code 1 when a file here differs.
    """
    from harness.watch.checkpoints.transfer import pull

    tell_copied(ctx, pull(source, target), target)
