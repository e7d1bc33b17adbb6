"""`harness import`: other tools' results as a ledger."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.verb import tell_json
from harness.screen import Screen

EXAMPLES = examples(
    "harness import outputs/eval/eval_info.json --out reports/imported --policy pi05",
    "harness import spatial/eval_info.json object/eval_info.json --out reports/imported  # one file per suite",
    "harness import scores.json --out reports/imported --success-at 1.0  # a score of 1.0 and more is a success",
    "harness compare reports/imported-base reports/imported-candidate",
)


def command(
    ctx: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="EVAL_INFO...", help="One or several eval_info.json of lerobot-eval."),
    ],
    out: Annotated[str, typer.Option(help="Directory or URI of the new ledger.")],
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="What to call the policy.")] = None,
    success_at: Annotated[
        float | None,
        typer.Option(help="Read successes as scores: this and more is a success.", show_default="true, false, 0, 1"),
    ] = None,
) -> None:
    """Import LeRobot's eval_info.json; several files (one per suite, say) make one ledger.

    What the file does not say (protocol, init states, lengths, versions, hardware) stays empty. Imported ledgers
    compare with each other, episode by position, but never with the harness's own runs, nor with those of another
    --success-at.
    """
    from harness.ledger.import_eval_info import import_eval_info

    found = import_eval_info(sources, out, policy=policy, success_at=success_at)
    for warning in found.warnings:
        Screen(stderr=True).say(f"warning: {warning}")
    tell_json(ctx, lambda: {"ledger": out, **asdict(found)})
    unknown = f", {found.unknown} of unknown outcome" if found.unknown else ""
    Screen().say(f"{found.episodes} episodes, {found.successes} successes{unknown}. Ledger: {out}")
