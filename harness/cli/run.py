"""`harness run`: a suite, from plan to report."""

from __future__ import annotations

import importlib
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.gated_run import prepare_gate
from harness.cli.metrics import MetricsPort, published_progress
from harness.cli.output import write_texts
from harness.cli.recording import Failures, record_request, report_recorded
from harness.cli.timing import TimingOptions, look_up
from harness.cli.tracking import tell_trackers
from harness.cli.values import parse_nfe, parse_policies, parse_profiles, parse_quantize
from harness.cli.verb import json_target
from harness.errors import EXIT_FAILED, EXIT_INTERRUPTED, HarnessError, UsageError
from harness.screen import Screen
from harness.spec.canaries import CanaryMode
from harness.spec.changes import SuiteChanges
from harness.spec.protocol import Instruction, Placements
from harness.spec.suite import Video
from harness.time_source import WallTime
from harness.trackers import HELP as TRACKERS
from harness.trackers import require_trackers

if TYPE_CHECKING:
    from harness.analysis.summary import Summary
    from harness.cluster.run import RunResult
    from harness.gate import GateResult
    from harness.schedule.progress import Progress

EXAMPLES = examples(
    "harness run demo",
    "harness run libero_spatial --policy scripted --policy noop --out reports/controls",
    "harness run seed --policy lerobot:lerobot/pi05-libero --nfe 1,10 --video failures",
    "harness run libero_spatial --policy flow --nfe 10 --quantize none,int8 --out reports/int8",
    "harness run libero_10 --policy flow --out reports/night --resume",
    "harness run libero_spatial --policy lerobot:me/candidate --gate-against reports/base",
    "harness run libero_spatial --policy scripted --record demos --placements sampled --episodes 50",
    "harness run libero_spatial --policy flow --clock synchronous,asynchronous --latency constant:180ms",
    "harness run libero_pro:libero_spatial_swap --policy scripted --address auto",
)


def command(
    ctx: typer.Context,
    suite: Annotated[str, typer.Argument(help="Name or path of a suite; NAME:VARIANT for a parametrised one.")],
    policy: Annotated[
        list[str] | None, typer.Option("--policy", "-p", help="Policy to evaluate; repeat for several.")
    ] = None,
    nfe: Annotated[str | None, typer.Option(help="NFE values for policies that denoise, e.g. 1,10.")] = None,
    quantize: Annotated[
        str | None,
        typer.Option(help="Axis: int8 linear layers of flow and lerobot: none, int8 (weights), int8-activations."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            help="Axis: hardware profiles of the nodes to run served policies and probes on.",
            show_default="wherever there is room",
        ),
    ] = None,
    canaries: Annotated[
        CanaryMode | None,
        typer.Option(help="Compare nodes before they run: where they are unlike (auto), always, never."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Directory or URI of the ledger.", show_default="reports/SUITE-TIME")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rollout workers.", show_default="one per core")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join, e.g. auto or HOST:6379.", show_default="a local cluster")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Run what the ledger in --out still lacks.")] = False,
    video: Annotated[
        Video | None, typer.Option(help="Film one episode, or one failure, per task.", show_default="as the suite says")
    ] = None,
    gate_against: Annotated[
        str | None, typer.Option(help="Base ledger: stop as soon as the verdict against it is certain.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(help="Rules of --gate-against, of sequential design.", show_default="sequential")
    ] = None,
    html: Annotated[str | None, typer.Option(help="Where to write the report.", show_default="OUT/report.html")] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="Init states of each task, from the first.", show_default="as the suite says"),
    ] = None,
    placements: Annotated[
        Placements | None,
        typer.Option(help="Begin at LIBERO's init states, or at sampled ones.", show_default="the suite's"),
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(
            help="How time passes while the policy decides: synchronous, blocking, asynchronous, rtc, wall.",
            show_default="the suite's",
        ),
    ] = None,
    latency: Annotated[
        list[str] | None,
        typer.Option(help="What a decision takes: constant:180ms, published:PROFILE; repeat for several."),
    ] = None,
    latency_from: Annotated[
        list[str] | None, typer.Option(help="Ledger of a probe whose samples are replayed; repeat for several.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Profiles whose predicted latency is used, low to high.")] = None,
    device_from: Annotated[
        str | None, typer.Option(help="Ledger that --device is predicted from.", show_default="an architecture")
    ] = None,
    latency_as: Annotated[
        str | None, typer.Option(help="Policy or architecture whose timing is used instead of the policy's own.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Added to each decision: constant:20ms or samples:FILE (ms, one a line).")
    ] = None,
    sensor: Annotated[str | None, typer.Option(help="Age of an observation, written as --network is.")] = None,
    instruction: Annotated[
        Instruction | None,
        typer.Option(help="Tell policies the task's own words, none, or another task's.", show_default="the suite's"),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Record the episodes as a LeRobot dataset in this new directory.")
    ] = None,
    record_failures: Annotated[Failures, typer.Option(help="What becomes of failed episodes.")] = "drop",
    record_noise: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Noise on executed actions; the recorded ones are without.")
    ] = 0.0,
    metrics: MetricsPort = None,
    log_to: Annotated[list[str] | None, typer.Option(help=TRACKERS)] = None,
) -> None:
    """Run a suite: LIBERO rollouts fanned out over Ray, then its latency probes, then a report.

    Every finished episode is in the ledger at once; after an interruption, --resume runs only what is missing.
    """
    from harness.policies.registry import POLICIES
    from harness.spec import load_suite

    require_trackers(log_to or [])
    given = latency or (), latency_from or ()
    timing = TimingOptions(clock, *given, device, device_from, latency_as, network, sensor)
    plain = timing.apply(load_suite(suite))
    policies = parse_policies(policy) if policy else None
    if quantize:
        policies = SuiteChanges(policies or (), quantize=parse_quantize(quantize)).apply(plain).policies or None
    for spec in policies or plain.policies:
        # Kind and options, before pandas and Ray are loaded; where its files are is looked at after.
        POLICIES.check(spec, local=False)
    recording = record_request(plain, episodes, placements, record, record_failures, record_noise, instruction)
    loaded = recording.suite
    if not (policies or loaded.policies) and loaded.tasks:
        raise UsageError(
            f"Suite {loaded.name!r} names no policy. Give one, e.g. `--policy scripted` or `--policy lerobot:REPO`; "
            "`harness list policies` shows them."
        )
    if resume and out is None:
        raise UsageError("--resume continues a ledger: name it with --out.")
    target = out or f"reports/{loaded.name.replace(':', '-')}-{WallTime().now():%Y%m%d-%H%M%S}"
    gated = prepare_gate(gate_against, rules, target, resume=resume)
    from harness.cli.live import ProgressDisplay

    screen = Screen()
    options = timing.arguments + recording.options + (gated.options if gated else "")
    options += f" --canaries {canaries}" if canaries else ""
    values, profiles = (parse_nfe(nfe) if nfe else None), (parse_profiles(on) if on else None)
    sources = look_up(loaded, policies, values)
    resume_command = _resume_command(suite, policy, nfe, quantize, on, target, workers, address, video) + options
    with (
        ProgressDisplay(screen) as display,
        published_progress(metrics, display, screen) as shown,
        _naming(resume_command, target, screen),
    ):
        from harness.cluster.run import run
        from harness.expectation import begin

        about = {"suite": loaded, "policies": policies, "nfe": values, "out": target, "workers": workers}
        expected = begin({**about, "resume": resume, "address": address})
        result = run(
            loaded,
            policies=policies,
            nfe=values,
            on=profiles,
            canaries=canaries,
            out=target,
            workers=workers,
            address=address,
            resume=resume,
            video=video,
            on_progress=_Ahead(shown),
            on_message=screen.say,
            early_stopping=gated.early_stopping if gated else None,
            record=recording.target,
            sources=sources,
            expected=expected,
        )
    found = gated.judge() if gated is not None and not result.interrupted else None
    summary = _show(ctx, result, screen, html, found)
    tell_trackers(log_to, summary, result.out, screen)
    report_recorded(result, screen)
    if gated is not None and found is not None:
        gated.conclude(result, found, screen)
    _conclude(result, screen, resume_command)


class _Ahead:
    """Imports what a run ends with, while its episodes go on: this process only watches them."""

    def __init__(self, display: Callable[[Progress], None]) -> None:
        """Pass progress on to `display`."""
        self._display, self._begun = display, False

    def __call__(self, progress: Progress) -> None:
        """At the first progress, begin."""
        if not self._begun:
            self._begun = True
            threading.Thread(target=importlib.import_module, args=("harness.report",), daemon=True).start()
        self._display(progress)


@contextmanager
def _naming(resume_command: str, out: str, screen: Screen) -> Iterator[None]:
    """Name the command that goes on, where a run failed after it had begun or was interrupted before it had."""
    try:
        yield
    except HarnessError as error:
        if error.resumable:
            error.args = (f"{error}\nEverything finished is in the ledger. To run the rest:\n  {resume_command}",)
        raise
    except KeyboardInterrupt:
        from harness.ledger.storage import Location

        if Location.of(f"{out.rstrip('/')}/runs").exists():
            screen.say(f"Interrupted before an episode ended. To run what the ledger lacks:\n  {resume_command}")
        else:
            screen.say("Interrupted before anything was begun: no ledger was written. Give the same command again.")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _show(ctx: typer.Context, result: RunResult, screen: Screen, html: str | None, gate: GateResult | None) -> Summary:
    """Print the tables, and write the report and the aggregates of a whole ledger."""
    from harness.analysis.summary import Summary
    from harness.ledger import read
    from harness.report import render_terminal, write_html, write_summary

    summary = Summary(read(result.out))
    path = html if html is not None else ("" if "://" in result.out else f"{result.out}/report.html")
    if path:
        write_html(summary, path, command=f"harness report {shlex.quote(result.out)} --html {shlex.quote(path)}")
    write_summary(summary, screen.say)
    write_texts([(json_target(ctx), lambda: _json(result, summary, path, gate))])
    render_terminal(summary, screen)
    if path:
        screen.say(f"Report: {path}")
    screen.say(f"Ledger: {result.out}")
    return summary


def _json(result: RunResult, summary: Summary, html: str, gate: GateResult | None) -> str:
    """The object of `--json`: what was run, its report, and the verdict of a gated run."""
    from harness.report.gate.json import gate_dict
    from harness.report.json import json_text, report_dict

    return json_text(
        {
            "ledger": result.out,
            "run_id": result.run_id,
            "html": html or None,
            "planned": result.planned,
            "skipped": result.skipped,
            "done": result.done,
            "outcomes": result.outcomes,
            "interrupted": result.interrupted,
            "errors": result.errors,
            "warnings": result.warnings,
            "report": report_dict(summary),
            "gate": gate_dict(gate) if gate is not None else None,
        }
    )


def _conclude(result: RunResult, screen: Screen, resume: str) -> None:
    """Say what is left, and exit with the code that scripts rely on."""
    finished = result.skipped + result.done
    if result.interrupted:
        screen.say(
            f"Interrupted: {finished} of {result.planned} episodes are in the ledger. To run the rest:\n  {resume}"
        )
        raise typer.Exit(EXIT_INTERRUPTED)
    if result.errors:
        for problem in result.errors:
            screen.say(f"error: {problem}")
        screen.say(f"To try the failed parts again:\n  {resume}")
        raise typer.Exit(EXIT_FAILED)


def _resume_command(
    suite: str,
    policies: list[str] | None,
    nfe: str | None,
    quantize: str | None,
    on: str | None,
    out: str,
    workers: int | None,
    address: str | None,
    video: Video | None,
) -> str:
    """The exact command that runs what is missing."""
    parts = ["harness", "run", suite]
    for policy in policies or ():
        parts += ["--policy", policy]
    given = {"--nfe": nfe, "--quantize": quantize, "--on": on, "--workers": workers, "--address": address}
    for option, value in given.items():
        if value is not None:
            parts += [option, str(value)]
    if video is not None:
        parts += ["--video", video]
    return shlex.join([*parts, "--out", out, "--resume"])
