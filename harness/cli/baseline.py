"""`harness baseline`: what candidates are judged against, and how results moved over many nights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.cli.values import require_ledgers
from harness.cli.verb import Verb, json_target, tell_json
from harness.errors import EXIT_FAILED
from harness.screen import Screen
from harness.time_source import WallTime

app = typer.Typer(
    help="Accept ledgers as baselines, list them, and look for step changes over many nights.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Root = Annotated[str, typer.Option(help="Directory or bucket that holds the ledgers.")]


@app.command(
    "set", cls=Verb, epilog=examples("harness baseline set reports/night-0301 --root reports --note 'release 1.4'")
)
def set_command(
    ctx: typer.Context,
    ledger: Annotated[str, typer.Argument(help="Ledger to accept, or its name inside --root.")],
    root: Root = "reports",
    name: Annotated[str, typer.Option(help="Line of development; a directory may keep several.")] = "main",
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Policy, if the ledger has several.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="Only this NFE.")] = None,
    note: Annotated[str, typer.Option(help="Why, for people.")] = "",
) -> None:
    """Accept a ledger as the baseline of its suite, protocol, hardware and NFE. Earlier records are kept."""
    require_ledgers(ledger if Path(ledger).exists() else f"{root}/{ledger}")
    from harness.gate.baseline import set_baseline

    records = set_baseline(root, ledger, WallTime().now(), name=name, policy=policy, nfe=nfe, note=note)
    tell_json(ctx, lambda: {"baselines": [asdict(record) for record in records]})
    for record in records:
        nfe_text = f" at NFE {record.nfe}" if record.nfe is not None else ""
        Screen().say(f"{record.name}: {record.ledger} ({' + '.join(record.suites)}{nfe_text})")


@app.command("show", cls=Verb, epilog=examples("harness baseline show --root reports"))
def show_command(
    ctx: typer.Context,
    root: Root = "reports",
    every: Annotated[bool, typer.Option("--all", help="Earlier acceptances too.")] = False,
) -> None:
    """Show the accepted baselines."""
    from harness.gate.baseline import current_baselines, read_baselines
    from harness.report.gate.history import baseline_table
    from harness.report.terminal import print_table

    records = read_baselines(root)
    shown = records if every else current_baselines(records)
    tell_json(ctx, lambda: {"baselines": [asdict(record) for record in shown]})
    if not records:
        Screen().say(f"{root} has no baseline. Accept one with `harness baseline set LEDGER --root {root}`.")
        return
    print_table(baseline_table(shown), Screen())


@app.command("history", cls=Verb, epilog=examples("harness baseline history --root reports --plot history.svg"))
def history_command(
    ctx: typer.Context,
    root: Root = "reports",
    plot: Annotated[Path | None, typer.Option(help="Draw it: a file ending in .svg, .png or .pdf.")] = None,
    alpha: Annotated[float, typer.Option(min=1e-4, max=0.5, help="Probability of a false step per series.")] = 0.05,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when a series has a step.")] = False,
) -> None:
    """Show every series of nights with its step changes, judged against all nights and not only the last."""
    import numpy as np

    from harness.gate.nights import list_ledgers, read_series
    from harness.report.gate.history import plot_series, series_table
    from harness.report.json import json_text
    from harness.report.terminal import print_table

    found = read_series(list_ledgers(root), np.random.default_rng(0), alpha=alpha)
    write_texts([(json_target(ctx), lambda: json_text({"series": [asdict(series) for series in found]}))])
    screen = Screen()
    for series in found:
        print_table(series_table(series), screen)
    if not found:
        Screen().say(f"{root} holds no ledger with episodes.")
    if plot is not None:
        plot_series(found, plot)
        Screen().say(f"Plot: {plot}")
    if strict and any(series.success_steps or series.latency_steps for series in found):
        raise typer.Exit(EXIT_FAILED)
