"""`harness replay`: one episode of a ledger again, as its run recorded how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.values import require_ledgers
from harness.cli.verb import tell_json
from harness.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.analysis.paired.pairing import Side

EXAMPLES = examples(
    "harness replay reports/demo 0a1b2c3d --policy flow --nfe 10",
    "harness replay reports/night 0a1b2c3d4e5f6071 --out reports/replay",
)


@dataclass(frozen=True)
class Found:
    """One episode of a ledger."""

    side: Side
    key: str
    outcome: str


def command(
    ctx: typer.Context,
    ledger: Annotated[str, typer.Argument(metavar="LEDGER", help="Ledger that holds the episode.")],
    key: Annotated[str, typer.Argument(metavar="KEY", help="Episode key, or its first digits; a report shows it.")],
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Whose episode, if several ran it.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the policy.")] = None,
    out: Annotated[str | None, typer.Option(help="Ledger to write.", show_default="reports/replay-KEY")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join.", show_default="a local cluster")] = None,
) -> None:
    """Run one episode of a ledger again, filmed, and say whether it ended as before.

    The same episode key, so the same init state and the same noise. Exit code 0 when it ended as before, 1 when not.
    """
    require_ledgers(ledger)
    from harness.evaluation import run
    from harness.gate.rerun import read_recipe
    from harness.spec.changes import SuiteChanges

    screen = Screen()
    found = find_episode(ledger, key, policy, nfe)
    recipe = read_recipe(found.side)
    target = out or f"reports/replay-{found.key[:16]}"
    result = run(
        SuiteChanges(video="all", probe="dropped").apply(recipe.suite),
        policies=[recipe.spec],
        nfe=[recipe.nfe] if recipe.nfe is not None else None,
        out=target,
        workers=1,
        address=address,
        only=[found.key],
        only_clocks=["synchronous"],
    )
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    again = find_episode(target, found.key, recipe.spec.label, recipe.nfe)
    same = again.outcome == found.outcome
    tell_json(
        ctx,
        lambda: {
            "ledger": target,
            "episode_key": found.key,
            "policy": found.side.label,
            "was": found.outcome,
            "now": again.outcome,
            "same": same,
        },
    )
    screen.say(f"{found.side.label}, episode {found.key[:16]}: was {found.outcome}, now {again.outcome}. {target}")
    if not same:
        raise typer.Exit(EXIT_FAILED)


def find_episode(ledger: str, key: str, policy: str | None, nfe: int | None) -> Found:
    """The one episode whose key begins so, of one policy, under the synchronous clock.

    Raises:
        UsageError: None or several, or several policies ran it: names them.
    """
    from harness.analysis.paired.pairing import read_sides

    names = ("timeout", "success", "error")
    found = [
        Found(side, own, names[int(code)])
        for side in read_sides(ledger, policy=policy, nfe=nfe, clock="synchronous")
        for own, code in zip(side.keys.to_pylist(), side.outcomes, strict=True)
        if own and own.startswith(key)
    ]
    if len({each.key for each in found}) > 1:
        raise UsageError(
            f"{key!r} begins {len({each.key for each in found})} episode keys of {ledger!r}. Give more digits."
        )
    if not found:
        raise UsageError(f"{ledger!r} has no episode whose key begins with {key!r} under the synchronous clock.")
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} policies ran episode {key!r}: {', '.join(each.side.label for each in found)}. "
            "Choose one with --policy and --nfe."
        )
    return found[0]
