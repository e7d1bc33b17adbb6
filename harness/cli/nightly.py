"""`harness nightly`: run, judge against the accepted baseline, tell people; one command for cron and CI."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.metrics import MetricsPort, published_progress
from harness.cli.output import write_texts
from harness.cli.tracking import tell_trackers
from harness.cli.values import parse_nfe, parse_policies, parse_profile
from harness.cli.verb import json_target, tell_json
from harness.errors import EXIT_INTERRUPTED, UsageError
from harness.screen import Screen
from harness.time_source import WallTime
from harness.trackers import HELP as TRACKERS
from harness.trackers import require_trackers

if TYPE_CHECKING:
    from harness.nightly.night import NightEnd

DEFAULT_KEEP = 30
"""Nights that `--dry-run` without `--keep` supposes to stay."""

EXAMPLES = examples(
    "harness nightly --policy lerobot:me/pi05",
    "harness nightly --policy lerobot:me/pi05 --root /srv/vla/nightly --notify https://chat.example/hook",
    "harness nightly --keep 30 --dry-run  # which old nights would go",
    "harness nightly --rebase  # after a new MuJoCo: the accepted checkpoint again, as the new baseline",
    "17 2 * * *  flock -n /tmp/nightly harness nightly --policy lerobot:me/pi05 --notify 'mail -s {verdict} me'",
)


def command(
    ctx: typer.Context,
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="What is judged.")] = None,
    suite: Annotated[str, typer.Option(help="Suite to run.")] = "nightly",
    rules: Annotated[str, typer.Option(help="Gate rules.")] = "nightly",
    root: Annotated[
        str, typer.Option(help="Directory of the nights' ledgers and of the baseline.")
    ] = "reports/nightly",
    baseline: Annotated[str, typer.Option(help="Which line of development of the baseline.")] = "main",
    accept: Annotated[bool, typer.Option("--accept", help="A night that passes becomes the new baseline.")] = False,
    nfe: Annotated[str | None, typer.Option(help="NFE value.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rollout workers.", show_default="one per core")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join.", show_default="a local cluster")] = None,
    on: Annotated[
        str | None,
        typer.Option(help="Hardware profile of the node to serve and time the policy on.", show_default="wherever"),
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, help="Init states of each task, from the first.", show_default="as the suite says"),
    ] = None,
    rebase: Annotated[
        bool,
        typer.Option("--rebase", help="The protocol changed: run the accepted checkpoint again, as the new baseline."),
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Remove all but the last so many nights; baselines stay.", show_default="all stay"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what --keep would remove; run nothing.")] = False,
    notify: Annotated[
        str | None, typer.Option(help="Command with {verdict} {report} {summary}, or a webhook's address.")
    ] = None,
    metrics: MetricsPort = None,
    html: Annotated[
        str, typer.Option(help="Write the night's report with the history of nights as one HTML file; path or URI.")
    ] = "",
    log_to: Annotated[list[str] | None, typer.Option(help=TRACKERS)] = None,
) -> None:
    """Run the nightly suite and judge it: exit code 0 PASS, 1 FAIL, 2 INCONCLUSIVE, whatever becomes of --notify.

    A night that was cut off is continued, not started again, and says so. The first night becomes the baseline if it
    meets absolute rules (floor of success, share of errors), else it ends with 2. There is no verdict when the night
    could not run (3), or when its protocol is not the baseline's (64, told before the first episode; see --rebase);
    --notify tells either with the verdict ERROR.
    """
    from harness.policies.registry import POLICIES
    from harness.spec.suite import load_suite

    require_trackers(log_to or [])
    # What a typing mistake is told by, before pandas and Ray are loaded.
    loaded = load_suite(suite)
    profile = parse_profile(on, "nightly") if on else ()
    for spec in parse_policies([policy]) if policy is not None else ():
        POLICIES.check(spec, local=False)
    if policy is None and not (rebase or dry_run):
        raise UsageError("A night judges one policy: give it with --policy, or run the accepted one with --rebase.")

    from harness.cli.live import ProgressDisplay
    from harness.evaluation import run
    from harness.ledger.storage import Location
    from harness.nightly.night import (
        NightlyRequest,
        accepted_recipe,
        admit_night,
        conclude_night,
        conclude_rebase,
        open_night,
        require_accepted_policy,
        tell_failure,
    )
    from harness.nightly.upkeep import plan_pruning, require_room
    from harness.notify import check_template
    from harness.report.gate.terminal import print_gate
    from harness.spec.changes import SuiteChanges

    if notify is not None:
        check_template(notify)
    if dry_run:
        lines = list(plan_pruning(root, keep or DEFAULT_KEEP).lines(dry_run=True))
        tell_json(ctx, lambda: {"ledger": None, "exit_code": 0, "lines": lines, "gate": None})
        for line in lines:
            Screen().say(line)
        raise typer.Exit
    night = NightlyRequest(root, suite, rules, baseline, accept)
    record, values = None, tuple[int, ...]()
    if rebase:
        record, recipe = accepted_recipe(night)
        spec, values = recipe.spec, () if recipe.nfe is None else (recipe.nfe,)
    if policy is not None:
        spec = parse_policies([policy])[0]
    if record is not None:
        require_accepted_policy(record, spec.label)
    if nfe or record is None:
        values = tuple(parse_nfe(nfe)) if nfe else ()
    screen = Screen()
    planned = SuiteChanges(episodes=episodes, on=profile).apply(loaded)
    require_room(root)
    out = open_night(night, spec.label, WallTime().now())
    if Location.of(out).exists():
        screen.say(f"Continuing the night that was cut off: {out}")
    try:
        with ProgressDisplay(screen) as display, published_progress(metrics, display, screen) as shown:
            result = run(
                planned,
                policies=[spec],
                nfe=list(values) or None,
                out=out,
                workers=workers,
                address=address,
                resume=True,
                admission=None if rebase else partial(admit_night, night),
                on_progress=shown,
                on_message=screen.say,
            )
        if result.interrupted:
            screen.say("Interrupted; the same command goes on with this night.")
            raise typer.Exit(EXIT_INTERRUPTED)
        if record is not None:
            ended = conclude_rebase(night, record, out, WallTime().now(), notify)
        else:
            ended = conclude_night(night, out, WallTime().now(), notify)
    except typer.Exit:
        raise
    except Exception as error:
        for line in (*tell_failure(notify, out, spec.label, error), *_pruned(root, keep)):
            screen.say(line)
        raise
    for line in ended.lines:
        screen.say(line)
    if log_to or html:
        from harness.analysis.summary import Summary
        from harness.cli.report import read_nights, report_command
        from harness.ledger import read
        from harness.report import write_html

        summary = Summary(read(out))
        tell_trackers(log_to or [], summary, out, screen)
        if html:
            again = report_command([out], html, history=root)
            write_html(summary, html, command=again, over_time=read_nights(root))
            screen.say(f"HTML: {html}")
    for line in _pruned(root, keep):
        screen.say(line)
    write_texts([(json_target(ctx), lambda: _json(out, ended))])
    if ended.gate is not None:
        print_gate(ended.gate, screen)
    raise typer.Exit(ended.exit_code)


def _pruned(root: str, keep: int | None) -> list[str]:
    """Remove what --keep says, however the night ended; what to say of it."""
    from harness.nightly.upkeep import plan_pruning, prune

    if keep is None:
        return []
    pruning = plan_pruning(root, keep)
    prune(pruning)
    return pruning.lines(dry_run=False)


def _json(out: str, ended: NightEnd) -> str:
    """The object of `--json`."""
    from harness.report.gate.json import gate_dict
    from harness.report.json import json_text

    judged = gate_dict(ended.gate) if ended.gate is not None else None
    return json_text({"ledger": out, "exit_code": ended.exit_code, "lines": list(ended.lines), "gate": judged})
