"""`harness gate`: a verdict on a candidate, for people and for CI."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.attribution import run_attribution
from harness.cli.compare import Allowed
from harness.cli.examples import examples
from harness.cli.output import repeated_command, write_texts
from harness.cli.values import EmbedVideos, parse_embed, require_ledgers
from harness.cli.verb import json_target
from harness.errors import UsageError
from harness.screen import Screen
from harness.time_source import WallTime

if TYPE_CHECKING:
    from harness.analysis.paired.compare import Choice
    from harness.ledger import Ledger

EXAMPLES = examples(
    "harness gate reports/base reports/candidate",
    "harness gate reports/base reports/candidate --rules nightly --markdown pr.md --junit gate.xml",
    "harness gate reports/base reports/candidate --html gate.html",
    "harness gate reports/candidate --baseline reports",
    "harness gate reports/base reports/candidate --attribute  # on FAIL: checkpoint, runtime, or chance?",
    "harness gate reports/base reports/student --rules robot_budget --device-ledger reports/orin",
    "harness gate s3://bucket/base reports/candidate --rules gates/mine.yaml --json gate.json",
)


def command(
    ctx: typer.Context,
    ledgers: Annotated[
        list[str],
        typer.Argument(
            metavar="[BASE] CANDIDATE",
            help="What is in use, and what might replace it; only the latter with --baseline.",
        ),
    ],
    rules: Annotated[
        str | None,
        typer.Option(help="YAML file, or name of shipped rules.", show_default="3 points, no collapsed task"),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Directory or bucket of ledgers: judge against its accepted baseline.")
    ] = None,
    baseline_name: Annotated[str, typer.Option(help="Which line of development of --baseline.")] = "main",
    base_policy: Annotated[str | None, typer.Option(help="Policy of the base, if it has several.")] = None,
    base_nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the base.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Policy of the candidate.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the candidate.")] = None,
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
    junit: Annotated[str, typer.Option(help="Write JUnit XML to a file, or to standard output with '-'.")] = "",
    html: Annotated[str, typer.Option(help="Write the page of both ledgers, flips with both videos.")] = "",
    embed_videos: EmbedVideos = "",
    base_clock: Annotated[str | None, typer.Option(help="Clock of the base, CLOCK or CLOCK:SOURCE.")] = None,
    clock: Annotated[str | None, typer.Option(help="Clock of the candidate.")] = None,
    allow: Annotated[
        Allowed | None, typer.Option(help="clock: pair rows of two clocks, or of two sources of delays.")
    ] = None,
    device_ledger: Annotated[
        str | None,
        typer.Option(help="Probe of the candidate on the robot's device: budgets, memory and energy are judged there."),
    ] = None,
    attribute: Annotated[
        bool,
        typer.Option("--attribute", help="On FAIL, run the flipped episodes again and say what carries the change."),
    ] = False,
    out: Annotated[
        str | None, typer.Option(help="Where the reruns' ledgers go.", show_default="reports/attribution-TIME")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rollout workers of the reruns.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster for the reruns.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the latency bootstrap.")] = 0,
) -> None:
    """Judge a candidate by rules: PASS (exit code 0), FAIL (1) or INCONCLUSIVE (2), with a reason per rule.

    Exit code 3 is no verdict: something failed, a damaged ledger perhaps, and --junit holds an error, not a failure.

    Success has to hold with infrastructure errors left out, and a PASS with them as bad for the candidate as they can
    have been, a FAIL as good; where these disagree, or the data cannot tell, the verdict is INCONCLUSIVE.
    """
    from harness.spec.rules import load_rules

    given, embed = load_rules(rules), parse_embed(embed_videos, html)
    _require_sides(ledgers, baseline)
    if not junit:
        # With it, a ledger that is not there is told of in the JUnit file too.
        require_ledgers(*ledgers, device_ledger)
    from harness.analysis.paired.compare import Choice
    from harness.gate import gate
    from harness.report.gate.json import render_json
    from harness.report.gate.junit import render_error_junit, render_gate_junit
    from harness.report.gate.markdown import render_gate_markdown
    from harness.report.gate.terminal import print_gate

    chosen = Choice(base_policy, base_nfe, policy, nfe, base_clock, clock)
    try:
        base, candidate, choice = _sides(ledgers, baseline, baseline_name, chosen)
        result = gate(
            base, candidate, given, choice=choice, seed=seed, allow=(allow,) if allow else (), device=device_ledger
        )
    except Exception as error:
        failure = error
        write_texts([(junit, lambda: render_error_junit(given.name, failure, WallTime().now()))])
        raise
    screen = Screen(stderr="-" in (markdown, junit))
    attributed = ""
    if attribute:
        attributed = run_attribution(result, out, workers=workers, address=address, screen=screen)
    write_texts(
        [
            (markdown, lambda: render_gate_markdown(result) + attributed),
            (junit, lambda: render_gate_junit(result, WallTime().now())),
            (json_target(ctx), lambda: render_json(result)),
        ]
    )
    print_gate(result, screen)
    if html:
        from harness.report.gate.html import write_gate_html

        write_gate_html(result, html, command=repeated_command(), embed=embed)
        screen.say(f"HTML: {html}")
    raise typer.Exit(result.verdict.exit_code)


def _require_sides(ledgers: list[str], root: str | None) -> None:
    """Refuse another number of ledgers than a gate takes."""
    if root is None and len(ledgers) != 2:
        raise UsageError(f"A gate takes BASE and CANDIDATE (got {len(ledgers)} ledgers), or CANDIDATE and --baseline.")
    if root is not None and len(ledgers) != 1:
        raise UsageError(f"With --baseline a gate takes the candidate alone (got {len(ledgers)} ledgers).")


def _sides(ledgers: list[str], root: str | None, name: str, choice: Choice) -> tuple[str, str | Ledger, Choice]:
    """Base, candidate and what to compare of them."""
    if root is None:
        return ledgers[0], ledgers[1], choice
    from harness.analysis.paired.pairing import describe_variants, read_sides
    from harness.gate.baseline import find_baseline
    from harness.ledger import open_ledger

    candidate = open_ledger(ledgers[0])
    sides = read_sides(candidate, policy=choice.policy, nfe=choice.nfe, clock=choice.clock)
    if len(sides) != 1:
        listing = describe_variants((side.policy_id, side.nfe) for side in sides)
        raise UsageError(f"--baseline judges one policy at one NFE; {ledgers[0]!r} has {listing}. Choose one.")
    found = find_baseline(root, sides[0], name)
    return found.path(root), candidate, replace(choice, base_policy=found.policy_id, base_nfe=found.nfe)
