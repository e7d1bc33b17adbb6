"""`harness watch`: evaluate every checkpoint of a training run, beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.values import parse_policies, parse_profile
from harness.cli.verb import tell_json
from harness.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, HarnessError, UsageError
from harness.screen import Screen
from harness.spec.budget import Budget
from harness.spec.suite import ProbePlan, Video
from harness.spec.timing import SYNCHRONOUS
from harness.trackers import HELP as TRACKERS
from harness.trackers import require_trackers
from harness.watch.backlog.order import BacklogOrder

if TYPE_CHECKING:
    from harness.spec.rules import GateRules
    from harness.watch.checkpoints.revisions import Revisions
    from harness.watch.evaluation.machine import Gpu
    from harness.watch.service import Hooks, Settings, Watcher

EXAMPLES = examples(
    "harness watch outputs/train/run7 --suite libero_spatial",
    "harness watch --outbox outputs/run7/outbox --suite nightly --order bisect",
    "harness watch outputs/run7 --suite libero_10 --cpus 12-15 --gpu 1 --rules nightly",
    "harness watch outputs/run7 --suite seed --policy-kind 'lerobot?dtype=bfloat16' --once",
    "harness watch outputs/run7 --suite seed --explain  # what would happen, and with what",
    "harness watch hf://me/pi05-student --base reports/incumbent  # doctor, seed suite, probe, budget gate",
    "harness watch outputs/run7 --suite seed --notify 'notify-send {name} {summary}'",
)


def command(
    ctx: typer.Context,
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR]",
            help="Folder that training writes to, a path or URI; or hf://OWNER/NAME, whose new revisions count.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Name or path of the suite that every checkpoint runs.", show_default="of hf://: seed"),
    ] = None,
    outbox: Annotated[Path | None, typer.Option(help="Folder of an EvalClient, in place of DIR or besides.")] = None,
    policy_kind: Annotated[
        str, typer.Option(help="What loads a checkpoint: lerobot, flow, python:MODULE:FACTORY, with ?options.")
    ] = "lerobot",
    out: Annotated[str | None, typer.Option(help="Ledger.", show_default="reports/watch-NAME")] = None,
    order: Annotated[
        BacklogOrder, typer.Option(help="Which checkpoint comes next when several wait.")
    ] = BacklogOrder.NEWEST,
    cancel: Annotated[
        bool, typer.Option(help="With --order newest, a newer checkpoint cancels queued episodes of an older one.")
    ] = True,
    max_waiting: Annotated[
        int | None, typer.Option(min=1, help="Skip checkpoints beyond this many that wait.", show_default="never skip")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Evaluate failed and skipped checkpoints after all.")] = False,
    done_marker: Annotated[
        str | None, typer.Option(help="File that training writes into a complete checkpoint.", show_default=False)
    ] = None,
    unchanged: Annotated[float, typer.Option(min=0, help="Else: seconds without a change that mean complete.")] = 30.0,
    poll: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds between looks.", show_default="5; of hf://: 60")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Evaluate what is there, then end.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say what would happen, and end.")] = False,
    rules: Annotated[
        str | None,
        typer.Option(help="Judge every checkpoint by these gate rules.", show_default="of hf://: robot_budget"),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Ledger to judge against.", show_default="the best checkpoint so far")
    ] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the policies.", show_default="their own")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rollout workers.", show_default="one per CPU")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join.", show_default="a private one for each checkpoint")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="Hardware profile of the node to serve and time policies on.", show_default="wherever"),
    ] = None,
    video: Annotated[Video | None, typer.Option(help="Film.", show_default="as the suite says")] = None,
    nice: Annotated[int, typer.Option(min=0, max=19, help="Niceness of everything that evaluates.")] = 19,
    cpus: Annotated[str | None, typer.Option(help="CPUs to use, e.g. 12-15.", show_default="all")] = None,
    gpu: Annotated[
        str | None, typer.Option(help="GPUs to use: 0,1 or none.", show_default="those that nobody computes on")
    ] = None,
    share_gpu: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="Take a GPU that others use, and at most this share of its memory."),
    ] = None,
    notify: Annotated[
        str | None, typer.Option(help="Command with {name} {verdict} {summary} {report}, or a webhook's address.")
    ] = None,
    log_to: Annotated[list[str] | None, typer.Option(help=TRACKERS)] = None,
) -> None:
    """Watch a training run and evaluate its checkpoints, without ever making training wait.

    Training writes files; this reads them. Each evaluation is a process of its own at low priority, appends to one
    ledger, and may be killed at any time: the same command goes on with what is missing, and a checkpoint that has its
    result is never evaluated again. Without --once it runs until Ctrl-C.
    """
    from harness.notify import check_template
    from harness.spec import load_suite
    from harness.spec.changes import SuiteChanges
    from harness.spec.rules import load_rules

    revisions = None
    if directory is not None and directory.startswith("hf://"):
        from harness.watch.checkpoints.revisions import repository_of

        revisions = repository_of(directory)
        out = out or f"reports/watch-{revisions[0].rpartition('/')[2]}"
        outbox, directory = outbox or Path(out) / "revisions", None
        suite, rules, poll, unchanged = suite or "seed", rules or "robot_budget", poll or 60.0, 0.0
    if suite is None:
        raise UsageError("Name the suite that every checkpoint runs with --suite, e.g. --suite seed.")
    if directory is None and outbox is None:
        raise UsageError("Name the folder that training writes to, or the --outbox of its EvalClient.")
    if directory is not None and os.path.isfile(directory):
        raise UsageError(f"{directory!r} is a file; name the folder that training writes its checkpoints to.")
    if base is not None and rules is None:
        raise UsageError("--base belongs to --rules: they say what a checkpoint is judged by.")
    if notify is not None:
        check_template(notify)
    parse_policies([policy_kind])
    require_trackers(log_to or [])
    loaded = load_suite(suite)
    if on:
        loaded = SuiteChanges(on=parse_profile(on, "watch")).apply(loaded)
    if any(clock != SYNCHRONOUS for clock in loaded.clock):
        raise UsageError(
            f"A learning curve is of the synchronous clock, but suite {loaded.name!r} has {', '.join(loaded.clock)}: "
            "leave its clock and latency out, and run the checkpoint that you choose with `harness run --clock`."
        )

    if revisions is not None and loaded.probe is None:
        # Success and latency of every revision, whatever the suite is for.
        loaded = loaded.model_copy(update={"probe": ProbePlan(launches=3, budget=Budget(min_seconds=3.0))})

    # Now that no name or file is mistaken, what takes seconds to load.
    from harness.interrupts import Interrupts
    from harness.time_source import WallTime
    from harness.watch.evaluation.machine import choose_gpus, parse_cpus, parse_gpus, read_gpus
    from harness.watch.evaluation.process import ProcessEvaluator
    from harness.watch.evaluation.request import EvaluationOptions
    from harness.watch.service import Settings, Watcher

    evaluation = EvaluationOptions(
        out=out or f"reports/watch-{_name(directory, outbox)}",
        suite=loaded.to_yaml(),
        policy=policy_kind,
        marker=done_marker,
        nfe=nfe,
        workers=workers,
        address=address,
        video=video,
        nice=nice,
        cpus=parse_cpus(cpus),
        gpu_memory_fraction=share_gpu,
    )
    settings = Settings(
        evaluation,
        directory=directory,
        outbox=outbox.absolute() if outbox is not None else None,
        order=order,
        cancel=cancel,
        max_waiting=max_waiting,
        quiet_s=unchanged,
        poll_s=poll or 5.0,
    )
    wanted = parse_gpus(gpu)
    if explain:
        _explain(ctx, settings, read_gpus(), wanted)
        return
    screen = Screen()
    given = load_rules(rules) if rules else None
    # A GPU that may not be used is refused at once, not after the first checkpoint.
    choose_gpus(read_gpus(), wanted=wanted, share=share_gpu)
    hooks = _hooks(settings, screen, given, base, notify, log_to or [], wanted)
    if revisions is not None:
        source = _revisions(revisions, settings, screen)
        # A repository that is not there is told at once; later trouble is tried again.
        source.fetch()
        hooks = replace(hooks, fetch=source.fetch)
    watcher = Watcher(settings, ProcessEvaluator(), WallTime(), hooks)
    if retry:
        watcher.retry()
    with Interrupts() as interrupts:
        ended = watcher.run(
            once=once, stopped=lambda: interrupts.count > 0, sleep=_sleeper(lambda: interrupts.count > 0)
        )
        watcher.stop()
        interrupted = interrupts.count > 0
    raise typer.Exit(_conclude(ctx, watcher, screen, ended=ended, interrupted=interrupted))


def _hooks(
    settings: Settings,
    screen: Screen,
    rules: GateRules | None,
    base: str | None,
    template: str | None,
    trackers: list[str],
    wanted: tuple[int, ...] | None,
) -> Hooks:
    from harness.trackers import open_sink
    from harness.watch.evaluation.machine import choose_gpus, read_gpus
    from harness.watch.learning_curve.publish import Judge, Publisher
    from harness.watch.service import Hooks, resume_command

    evaluation = settings.evaluation
    share = evaluation.gpu_memory_fraction
    judge = Judge(evaluation.out, rules, base, evaluation.nfe) if rules is not None else lambda entry, state: ("", "")
    sinks = [open_sink(text, Path(evaluation.out.rstrip("/")).name) for text in trackers]
    return Hooks(
        say=screen.say,
        choose_gpus=lambda: choose_gpus(read_gpus(), wanted=wanted, share=share).devices,
        judge=judge,
        publish=Publisher(
            evaluation.out, settings.outbox, evaluation.nfe, resume_command(), tuple(sinks), template, screen
        ),
    )


def _revisions(named: tuple[str, str], settings: Settings, screen: Screen) -> Revisions:
    """The revisions of a repository, each past the doctor before it is evaluated."""
    from harness.watch.checkpoints.revisions import Revisions

    assert settings.outbox is not None  # noqa: S101 - made for it
    kind = settings.evaluation.policy
    examine = partial(_examine, kind) if kind.partition("?")[0] in ("lerobot", "flow") else lambda folder: None
    return Revisions(*named, settings.outbox, screen.say, time.time, examine)


def _examine(kind: str, folder: str) -> str | None:
    """What the doctor finds wrong with a policy, asked in a process of its own; None where nothing is."""
    name, mark, options = kind.partition("?")
    command = [sys.executable, "-c", "from harness.cli import main; main()", "doctor", "--json=-"]
    asked = subprocess.run([*command, "--policy", f"{name}:{folder}{mark}{options}"], capture_output=True, text=True)
    try:
        checks = json.loads(asked.stdout)["checks"]
    except ValueError:
        return f"the doctor cannot load it: {(asked.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
    failed = [f"{one['name']}: {one['found']}" for one in checks if one["status"] == "fail"]
    return f"the doctor finds {'; '.join(failed)}" if failed else None


def _conclude(ctx: typer.Context, watcher: Watcher, screen: Screen, *, ended: bool, interrupted: bool) -> int:
    """Say where everything is, and the exit code."""
    from harness.gate.verdict import Verdict
    from harness.watch.backlog.journal import CheckpointStatus
    from harness.watch.service import resume_command

    settings = watcher.settings
    tell_json(
        ctx,
        lambda: {
            "ledger": settings.evaluation.out,
            "checkpoints": [
                {**asdict(entry), "status": entry.status.value}
                for entry in sorted(watcher.state.entries.values(), key=lambda entry: entry.position)
            ],
            "explanation": [],
        },
    )
    screen.say(f"Ledger: {settings.evaluation.out}")
    if not ended:
        waiting = len(watcher.state.with_status(CheckpointStatus.WAITING))
        screen.say(
            f"{'Interrupted' if interrupted else 'Ended'} with {waiting} checkpoints waiting. To go on:\n"
            f"  {resume_command()}"
        )
        return EXIT_INTERRUPTED if interrupted else EXIT_FAILED
    judged = [entry for entry in watcher.state.with_status(CheckpointStatus.EVALUATED) if entry.verdict]
    if judged:
        return Verdict(max(judged, key=lambda entry: entry.position).verdict).exit_code
    return EXIT_FAILED if watcher.state.with_status(CheckpointStatus.FAILED) else EXIT_OK


def _explain(ctx: typer.Context, settings: Settings, gpus: tuple[Gpu, ...], wanted: tuple[int, ...] | None) -> None:
    from harness.watch.evaluation.machine import GpuChoice, choose_gpus
    from harness.watch.explain import explain

    choice: GpuChoice | str
    try:
        choice = choose_gpus(gpus, wanted=wanted, share=settings.evaluation.gpu_memory_fraction)
    except HarnessError as error:
        choice = str(error)
    lines = list(explain(settings, gpus, choice))
    tell_json(ctx, lambda: {"ledger": settings.evaluation.out, "checkpoints": [], "explanation": lines})
    for line in lines:
        Screen().say(line)


def _sleeper(stopped: Callable[[], bool]) -> Callable[[float], None]:
    """A sleep that ends soon after an interruption, which signals that are only counted do not do by themselves."""

    def sleep(seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not stopped() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    return sleep


def _name(directory: str | None, outbox: Path | None) -> str:
    place = (directory or "").rstrip("/") or str((outbox or Path()).absolute().parent)
    name = Path(place).name
    return Path(place).absolute().parent.name if name == "checkpoints" else (name or "run")
