"""`harness compare`: paired statistics of two or more ledgers. It changes nothing and judges nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli.examples import examples
from harness.cli.output import repeated_command, write_texts
from harness.cli.values import EmbedVideos, parse_embed, require_ledgers
from harness.cli.verb import json_target
from harness.errors import EXIT_INCONCLUSIVE, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.analysis.paired.matrix import Matrix

Allowed = Literal["clock"]
"""Values of --allow."""

EXAMPLES = examples(
    "harness compare reports/base reports/candidate",
    "harness compare reports/night reports/night --base-nfe 10 --nfe 1  # one ledger, two NFE",
    "harness compare reports/a reports/b reports/c  # every pair, with letters",
    "harness compare reports/devices reports/devices --base-clock synchronous --clock asynchronous --allow clock",
    "harness compare reports/base reports/candidate --html compare.html",
    "harness compare reports/base s3://bucket/candidate --markdown pr.md --json pr.json",
)


def command(
    ctx: typer.Context,
    ledgers: Annotated[
        list[str],
        typer.Argument(metavar="BASE CANDIDATE", help="Two ledgers; or one, or three and more, for a matrix."),
    ],
    base_policy: Annotated[str | None, typer.Option(help="Policy of the base, if it has several.")] = None,
    base_nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the base.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Policy of the candidate.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the candidate.")] = None,
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
    html: Annotated[str, typer.Option(help="Write the page of both ledgers, flips with both videos.")] = "",
    embed_videos: EmbedVideos = "",
    hardware: Annotated[
        Literal["same", "any"], typer.Option(help="Whether latency, energy and memory of two machines may be compared.")
    ] = "same",
    energy: Annotated[
        Literal["same", "any"],
        typer.Option(help="Whether energies of two sources, a counter and power × time, may be compared."),
    ] = "same",
    base_clock: Annotated[str | None, typer.Option(help="Clock of the base, CLOCK or CLOCK:SOURCE.")] = None,
    clock: Annotated[str | None, typer.Option(help="Clock of the candidate.")] = None,
    allow: Annotated[
        Allowed | None, typer.Option(help="clock: pair rows of two clocks, or of two sources of delays.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the latency bootstrap.")] = 0,
) -> None:
    """Compare success and latency, episode by episode.

    Episodes pair by key, so both ledgers have to come from the same protocol. Success: Clopper-Pearson intervals, the
    paired difference with its interval, exact McNemar, a table per task with Holm's correction, and every flip with its
    videos. Latency: ratios of the median and of p99 with intervals over launches, on one machine.
    """
    embed = parse_embed(embed_videos, html)
    if len(ledgers) != 2:
        _refuse_for_two(base_policy, base_nfe, base_clock, html)
    require_ledgers(*ledgers)
    from harness.report.gate.json import render_json
    from harness.report.gate.markdown import render_comparison_markdown, render_matrix_markdown
    from harness.report.gate.terminal import print_comparison, print_matrix

    screen = Screen(stderr=markdown == "-")
    if len(ledgers) == 2:
        from harness.analysis.paired.compare import Choice, compare

        choice = Choice(base_policy, base_nfe, policy, nfe, base_clock, clock)
        found = compare(
            ledgers[0],
            ledgers[1],
            choice=choice,
            seed=seed,
            across=hardware == "any",
            energy=energy,
            allow=(allow,) if allow else (),
        )
        write_texts(
            [(markdown, lambda: render_comparison_markdown(found)), (json_target(ctx), lambda: render_json(found))]
        )
        print_comparison(found, screen)
        if html:
            from harness.report.gate.html import write_comparison_html

            write_comparison_html(found, html, command=repeated_command(), embed=embed)
            screen.say(f"HTML: {html}")
        if found.no_pairs:
            Screen(stderr=True).say(found.no_pairs)
            raise typer.Exit(EXIT_INCONCLUSIVE)
        return
    matrix = _matrix(ledgers, policy, nfe, clock, allow_clock=allow == "clock")
    write_texts([(markdown, lambda: render_matrix_markdown(matrix)), (json_target(ctx), lambda: render_json(matrix))])
    print_matrix(matrix, screen)
    if matrix.no_pairs:
        Screen(stderr=True).say(matrix.no_pairs)
        if not any(success.n for success, _ in matrix.comparisons):
            raise typer.Exit(EXIT_INCONCLUSIVE)


def _refuse_for_two(base_policy: str | None, base_nfe: int | None, base_clock: str | None, html: str) -> None:
    """Refuse what only a comparison of two ledgers takes."""
    if base_policy is not None or base_nfe is not None:
        raise UsageError("--base-policy and --base-nfe belong to a comparison of two ledgers; use --policy and --nfe.")
    if base_clock is not None:
        raise UsageError("--base-clock belongs to a comparison of two ledgers; use --clock.")
    if html:
        raise UsageError("--html is a page about two ledgers; `harness report LEDGER... --html` shows several.")


def _matrix(ledgers: list[str], policy: str | None, nfe: int | None, clock: str | None, *, allow_clock: bool) -> Matrix:
    from harness.analysis.paired.compare import machine_notices
    from harness.analysis.paired.matrix import compare_many
    from harness.analysis.paired.pairing import read_sides
    from harness.ledger.reader import open_ledger

    opened = [open_ledger(path) for path in ledgers]
    sides = [side for ledger in opened for side in read_sides(ledger, policy=policy, nfe=nfe, clock=clock)]
    if len(sides) < 2:
        raise UsageError(f"{' '.join(ledgers)}: {len(sides)} checkpoints with episodes; a comparison needs two.")
    matrix = compare_many(sides, allow_clock=allow_clock)
    return replace(matrix, notices=(*matrix.notices, *machine_notices(opened)))
