"""`harness export`: a ledger as one file that a stranger can run again, and a result card."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.verb import tell_json
from harness.errors import UsageError
from harness.screen import Screen

EXAMPLES = examples(
    "harness export reports/night",
    "harness export reports/night --out night.zip",
    "harness export reports/night --card card.md --policy flow --nfe 10   # and card.json, as the hub reads it",
    "harness export reports/night --card card.md --push OWNER/MODEL       # proposed as a pull request",
)


def command(
    ctx: typer.Context,
    ledger: Annotated[str, typer.Argument(metavar="LEDGER", help="Ledger: a path or URI.")],
    out: Annotated[
        Path | None, typer.Option(help="Archive to write.", show_default="LEDGER's name with .zip, here")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Also write a result card here (Markdown), and as JSON.")] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/MODEL", help="Propose the card's results to a model on the hub.")
    ] = None,
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Whose card, if several ran.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the card's policy.")] = None,
) -> None:
    """Write protocol, suite, episodes, versions, hardware, raw latency and fixture of a ledger into one archive.

    `harness reproduce FILE` runs it again. Videos stay behind; host names of machines are in its tables.
    """
    import harness
    from harness.archive.card import push_card, result_card
    from harness.archive.file import export_ledger
    from harness.ledger.reader import Ledger

    screen = Screen()
    if push is not None and card is None:
        raise UsageError("--push sends a card; say with --card where it is written, so that it can be read first.")
    if card is not None and card.suffix != ".md":
        raise UsageError(f"--card {card} is no Markdown file; give it the ending .md (the JSON goes beside it).")
    made = (
        result_card(Ledger(ledger), policy=policy, nfe=nfe, model_name=push and push.partition("/")[2])
        if card
        else None
    )
    target = out or Path(ledger.rstrip("/").rpartition("/")[2] + ".zip")
    written = export_ledger(ledger, target, harness_version=harness.__version__, now=datetime.now(UTC))
    screen.say(f"{target}: {written.episodes} episodes, {written.bytes:,} bytes, sha256 {written.sha256}")
    for name, digest in written.fixtures.items():
        if digest is None:
            screen.say(f"note: the fixture of {name} is not installed here, so the archive holds no digest of it.")
    told = {"archive": str(target), "episodes": written.episodes, "bytes": written.bytes, "sha256": written.sha256}
    tell_json(ctx, lambda: told | {"card": None if card is None else str(card)})
    if made is None or card is None:
        return
    try:
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_text(made.markdown, encoding="utf-8")
        card.with_suffix(".json").write_text(made.json, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot write {card}: {error.strerror}. Name another file with --card.") from error
    screen.say(f"Card: {card}, {card.with_suffix('.json')}")
    if push is not None:
        screen.say(f"Proposed: {push_card(made, push)}")
