"""`harness delay`: the largest delay that a policy stands."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.examples import examples
from harness.cli.timing import parse_clocks
from harness.cli.values import parse_margin, parse_policies
from harness.cli.verb import tell_json
from harness.errors import UsageError
from harness.screen import Screen
from harness.time_source import WallTime

if TYPE_CHECKING:
    from harness.analysis.delay_limit import DelayLimit

EXAMPLES = examples(
    "harness delay flow libero_spatial --margin 3pp",
    "harness delay flow libero_spatial --clock blocking --nfe 1 --episodes 20 --out reports/delay",
    "harness delay lerobot:lerobot/pi05-libero seed --clock rtc --longest 40",
)


def command(
    ctx: typer.Context,
    policy: Annotated[str, typer.Argument(help="Policy.")],
    suite: Annotated[str, typer.Argument(help="Name or path of a suite.")],
    margin: Annotated[str, typer.Option(help="Drop of success that is tolerated, points of a per cent.")] = "3pp",
    clock: Annotated[str, typer.Option(help="asynchronous, blocking or rtc.")] = "asynchronous",
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE.", show_default="the policy's own")] = None,
    longest: Annotated[int, typer.Option(min=1, help="Largest delay that is considered, control steps.")] = 20,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Init states of each task.", show_default="as the suite says")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Ledger; one that exists is continued.", show_default="reports/delay-TIME")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rollout workers.", show_default="one per core")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join.", show_default="a local cluster")] = None,
) -> None:
    """Find the largest delay of decisions under which success stays within a margin of the synchronous run's.

    Bisection over delay on paired episodes. The answer is in control steps, with milliseconds at the protocol's rate;
    the ledger's report draws success against delay. The same command with --out goes on where it stopped.
    """
    tolerated = parse_margin(margin)
    (spec,), clocks = parse_policies([policy]), parse_clocks(clock)
    if len(clocks) != 1:
        raise UsageError(f"--clock is {clock!r}; one clock is searched at a time.")
    from harness.spec import load_suite

    plain = load_suite(suite)
    from harness.cli.live import ProgressDisplay
    from harness.delay_search import DelaySearch
    from harness.report.tables.delay_limit import delay_sentence, delay_table
    from harness.report.terminal import print_table
    from harness.spec.changes import SuiteChanges
    from harness.spec.policy import PolicyAtNfe

    loaded = SuiteChanges(episodes=episodes).apply(plain)
    target = out or f"reports/delay-{WallTime().now():%Y%m%d-%H%M%S}"
    screen = Screen()
    with ProgressDisplay(screen) as display:
        search = DelaySearch(
            loaded,
            spec,
            clocks[0],
            target,
            tolerated,
            longest,
            nfe,
            workers,
            address,
            on_progress=display,
            on_message=screen.say,
        )
        try:
            limit = search.run()
        except KeyboardInterrupt:
            screen.say(f"Everything finished is in {target}. To go on, give the same command with --out {target}.")
            raise
    hz = loaded.protocol.control_hz
    sentence = delay_sentence(limit, PolicyAtNfe(spec.label, nfe).label, loaded.name, clocks[0], tolerated, hz)
    tell_json(ctx, lambda: {"ledger": target, **_plain(limit, sentence, hz)})
    print_table(delay_table(limit, tolerated, hz), screen)
    screen.say()
    screen.say(sentence)
    for warning in limit.warnings:
        screen.say(f"warning: {warning}")
    _write_report(target, screen)


def _plain(limit: DelayLimit, sentence: str, hz: int) -> dict[str, Any]:
    probes = [
        {"steps": probe.steps, **asdict(probe.counts), "difference": probe.counts.difference, "low": probe.low}
        | {"high": probe.high}
        for probe in limit.probes
    ]
    answer = {"steps": limit.steps, "ms": limit.steps * 1000 / hz, "low": limit.low, "high": limit.high}
    told = {"episodes": limit.episodes, "warnings": list(limit.warnings), "sentence": sentence}
    return {**answer, **told, "probes": probes}


def _write_report(out: str, screen: Screen) -> None:
    from harness.analysis.summary import Summary
    from harness.ledger import read
    from harness.report import write_html

    if "://" not in out:
        write_html(Summary(read(out)), f"{out}/report.html", command=f"harness report {out} --html {out}/report.html")
        screen.say(f"Report: {out}/report.html")
    screen.say(f"Ledger: {out}")
