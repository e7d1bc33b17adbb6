"""`harness report`: what a person reads, from ledgers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.cli.values import EmbedVideos, parse_embed, require_ledgers
from harness.cli.verb import json_target
from harness.errors import UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.analysis.summary import Summary
    from harness.ledger import Ledger
    from harness.report.over_time import OverTime
    from harness.report.tables.table import Table

EXAMPLES = examples(
    "harness report reports/demo",
    "harness report reports/demo --html report.html",
    "harness report reports/a100 reports/spark --markdown -",
    "harness report reports/demo --figures figures  # SVG, PNG and the CSV behind each",
    "harness report reports/h100 --published",
    "harness report reports/nightly/20260301-021700 --html night.html --history reports/nightly",
    "harness report reports/base reports/plus --libero-plus ~/LIBERO-plus --html robustness.html",
    "harness report reports/a100 reports/spark --parquet reports/both  # success, latency, … with intervals",
    "harness report reports/night --eval-info eval_info.json --policy lerobot:lerobot/pi05-libero --nfe 10",
)


def command(
    ctx: typer.Context,
    ledgers: Annotated[list[str], typer.Argument(metavar="LEDGER...", help="Directories or URIs of ledgers.")],
    html: Annotated[str, typer.Option(help="Write one self-contained HTML file; path or URI.")] = "",
    embed_videos: EmbedVideos = "",
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
    parquet: Annotated[
        str, typer.Option(help="Write the aggregates, pooled over the ledgers, into this folder or URI.")
    ] = "",
    figures: Annotated[str, typer.Option(help="Write figures for papers into this folder: SVG, PNG and CSV.")] = "",
    eval_info: Annotated[Path | None, typer.Option(help="Write LeRobot's eval_info.json.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Policy of --eval-info.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of --eval-info.")] = None,
    libero_plus: Annotated[
        Path | None, typer.Option(help="Checkout of LIBERO-Plus: variants of its tasks are shown by its categories.")
    ] = None,
    history: Annotated[
        str, typer.Option(help="Directory of nights: the HTML page shows them over time, with changes of level.")
    ] = "",
    published: Annotated[bool, typer.Option("--published", help="Set published success and latencies beside.")] = False,
) -> None:
    """Print success with intervals, where the time went, latency by component, and provenance."""
    require_ledgers(*ledgers)
    if history and not html:
        raise UsageError("--history shows nights on the page: say where it goes with --html FILE.")
    embed = parse_embed(embed_videos, html)
    from harness.analysis.summary import Summary
    from harness.ledger import read
    from harness.report import render_terminal
    from harness.report.json import render_report_json
    from harness.report.terminal import print_table

    ledger = read(*ledgers)
    summary = Summary(ledger, _categories(libero_plus))
    if eval_info is not None:
        _write_eval_info(ledger, eval_info, policy, nfe)
    others = _published(ledger) if published else []
    write_texts(
        [
            (markdown, lambda: _markdown(summary, others)),
            (json_target(ctx), lambda: render_report_json(summary, others or None)),
        ]
    )
    if html:
        from harness.report import write_html

        again = report_command(ledgers, html, published=published, history=history, embed=embed_videos)
        moved = _over_time(ledgers, history)
        write_html(summary, html, command=again, published=others, over_time=moved, embed=embed)
    if parquet:
        from harness.report import write_parquet

        write_parquet(summary, parquet)
    screen = Screen(stderr=markdown == "-")
    if figures:
        from harness.report.figures import write_figures

        write_figures(summary, figures)
    if markdown != "-":
        render_terminal(summary, screen)
        for table in others:
            print_table(table, screen)
    for kind, path in (
        ("Markdown", markdown),
        ("JSON", json_target(ctx)),
        ("HTML", html),
        ("Parquet", parquet),
        ("Figures", figures),
    ):
        if path and path != "-":
            screen.say(f"{kind}: {path}")


def _categories(libero_plus: Path | None) -> dict[str, str]:
    """Name of a LIBERO-Plus variant → category."""
    if libero_plus is None:
        return {}
    from harness.sim.libero_plus import read_plus

    return {variant.name: variant.category for variant in read_plus(libero_plus).variants}


def _over_time(ledgers: list[str], history: str) -> list[OverTime]:
    """Learning curves of ledgers that a watch writes, and nights."""
    from harness.watch.backlog.journal import Journal, fold

    found: list[OverTime] = []
    for ledger in ledgers:
        entries = list(fold(Journal(ledger).read()).entries.values())
        if entries:
            from harness.watch.learning_curve.curve import read_curve
            from harness.watch.learning_curve.render import curve_over_time

            found.append(curve_over_time(read_curve(ledger, entries)))
    return found + (read_nights(history) if history else [])


def read_nights(root: str) -> list[OverTime]:
    """Nights of a directory as sections of the page.

    Raises:
        LedgerError: There is no such directory.
    """
    import numpy as np

    from harness.gate.nights import list_ledgers, read_series
    from harness.report.gate.history import nights_over_time

    return nights_over_time(read_series(list_ledgers(root), np.random.default_rng(0)))


def _published(ledger: Ledger) -> list[Table]:
    """Published success and decisions of the ledger's models."""
    from harness.analysis.predict.published import MODELS, beside, load_published
    from harness.analysis.success.published import beside_success, load_published_success
    from harness.report.tables.predict import published_table
    from harness.report.tables.success import published_success_table

    success = beside_success(ledger.episodes, ledger.manifests, load_published_success())
    found = [published_success_table(success), published_table(beside(ledger.latency, load_published()))]
    tables = [table for table in found if table.rows]
    if not tables:
        raise UsageError(
            "Nothing is published of the policies in this ledger. A policy is known by the model in its name "
            f"({', '.join(MODELS)}; `harness import … --policy pi05` names one), on a suite by the suite's name; else "
            "leave --published out."
        )
    return tables


def _markdown(summary: Summary, others: list[Table]) -> str:
    from harness.report import render_markdown
    from harness.report.markdown import table_markdown

    return render_markdown(summary) + "".join(f"\n{table_markdown(table)}\n" for table in others)


def _write_eval_info(ledger: Ledger, path: Path, policy: str | None, nfe: int | None) -> None:
    """Export what LeRobot's readers take, and say what that form cannot hold."""
    from harness.ledger.eval_info import export_eval_info, render_eval_info

    content = export_eval_info(ledger, policy=policy, nfe=nfe)
    write_texts([(str(path), lambda: render_eval_info(content))])
    written = content["overall"]["n_episodes"]
    Screen(stderr=True).say(f"eval_info.json: {path} ({written} episodes; infrastructure errors have no place in it)")


def report_command(
    ledgers: list[str], html: str, *, published: bool = False, history: str = "", embed: str = ""
) -> str:
    """The command that makes this report again."""
    options = ["--published"] if published else []
    options += [
        part for name, value in (("--history", history), ("--embed-videos", embed)) if value for part in (name, value)
    ]
    return shlex.join(["harness", "report", *ledgers, *options, "--html", str(html)])
