"""`harness import`: other tools' results as a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.screen import Screen

EXAMPLES = examples(
    "harness import outputs/eval/eval_info.json --out reports/imported --policy pi05",
    "harness compare reports/imported-base reports/imported-candidate",
)


def command(
    source: Annotated[Path, typer.Argument(metavar="EVAL_INFO", help="An eval_info.json that lerobot-eval wrote.")],
    out: Annotated[str, typer.Option(help="Directory or URI of the new ledger.")],
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="What to call the policy.")] = None,
) -> None:
    """Import LeRobot's eval_info.json.

    What the file does not say (protocol, init states, lengths, versions, hardware) stays empty. Imported ledgers
    compare with each other, episode by position, but never with the harness's own runs.
    """
    from harness.ledger.eval_info import import_eval_info

    found = import_eval_info(source, out, policy=policy)
    unknown = f", {found.unknown} of unknown outcome" if found.unknown else ""
    Screen().say(f"{found.episodes} episodes, {found.successes} successes{unknown}. Ledger: {out}")
