"""`harness doctor`: is this machine ready, is this policy well?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.values import parse_policies
from harness.cli.verb import tell_json
from harness.errors import EXIT_FAILED, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.doctor import Check

EXAMPLES = examples(
    "harness doctor",
    "harness doctor --fix  # install the pinned version where another one is found",
    "harness doctor --json",
    "harness doctor --policy flow",
    "harness doctor --libero-plus ~/LIBERO-plus",
    "harness doctor --policy flow:checkpoints/mine --write-probe checkpoints/mine",
    "harness doctor --policy lerobot:lerobot/pi05-libero --probe probes/pi05",
)


def command(
    ctx: typer.Context,
    policy: Annotated[
        str | None, typer.Option("--policy", "-p", help="Check a policy instead: would it score 0 %, and why?")
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="Folder with the probe.json of --policy.", show_default="the checkpoint's folder"),
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Install the pinned version where a check names it; of a venv only.")
    ] = False,
    write_probe: Annotated[
        Path | None, typer.Option(help="Write probe.json of a --policy that is known to be well into this folder.")
    ] = None,
    libero_plus: Annotated[
        Path | None, typer.Option(help="Check a checkout of LIBERO-Plus instead: sizes, files, instructions.")
    ] = None,
) -> None:
    """Check this machine for the failures that are known to cost days: GL, versions, disk, LIBERO's resources.

    With --policy, check a policy for those that make it score 0 %: images upside down, cameras swapped, wrong
    resolution, state in the wrong order, unnormalised actions, random weights. No simulator is needed.
    """
    from harness.doctor import CHECKS, CheckStatus, run_checks
    from harness.doctor.mend import mend

    if policy is None and (probe or write_probe):
        raise UsageError("--probe and --write-probe are about a policy: name it with --policy.")
    if policy is not None and fix:
        raise UsageError("--fix mends this machine's packages, not a policy: leave --policy out.")
    if libero_plus is not None and (policy is not None or fix):
        raise UsageError("--libero-plus is a check of its own; leave --policy and --fix out.")
    if libero_plus is not None:
        from harness.doctor.libero_plus import check_plus

        results: Sequence[Check] = check_plus(libero_plus)
    else:
        results = run_checks(CHECKS) if policy is None else _check(policy, probe, write_probe)
    mended = mend(results) if fix else []
    for one in mended:
        Screen().say(f"{one.name}: {one.command}: {one.fault or 'done'}")
    if any(one.fault is None for one in mended):
        results = run_checks(CHECKS)
    failed = any(result.status is CheckStatus.FAIL for result in results)
    tell_json(
        ctx,
        lambda: {
            "ready": not failed,
            "checks": [{**asdict(one), "status": one.status.value} for one in results],
            "mended": [asdict(one) for one in mended],
        },
    )
    _print(results)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _print(results: Sequence[Check]) -> None:
    """The verdict, every check, and then what to do: commands on lines of their own, that can be copied."""
    from harness.doctor import CheckStatus

    screen = Screen()
    named = {status: [one.name for one in results if one.status is status] for status in CheckStatus}
    failed, warned = named[CheckStatus.FAIL], named[CheckStatus.WARN]
    parts = [f"{len(failed)} of {len(results)} checks fail: {', '.join(failed)}"] if failed else []
    parts += [f"{len(warned)} to know of: {', '.join(warned)}"] if warned else []
    said = "; ".join(parts) or f"all {len(results)} checks are well"
    screen.say(("Not ready" if failed else "Ready", "bold red" if failed else "bold green"), f": {said}.", prose=True)
    colour = {CheckStatus.OK: "green", CheckStatus.WARN: "yellow", CheckStatus.FAIL: "red"}
    screen.rows(
        [
            ("check", "", "found"),
            *((one.name, (one.status.value, colour[one.status]), one.found) for one in results),
        ]
    )
    remedies = [one for one in results if one.remedy]
    if remedies:
        screen.say("What to do:")
    for one in remedies:
        screen.say(f"  {one.name}: {one.remedy}")


def _check(text: str, probe: Path | None, write_probe: Path | None) -> Sequence[Check]:
    """Check the policy, or write down how it answers while it is well."""
    from harness.doctor.expectations import make_expectations, read_expectations, write_expectations
    from harness.doctor.policies import probe_folder, without_expectations
    from harness.doctor.policy_checks import check_policy
    from harness.policies.registry import POLICIES, make_policy

    (spec,) = parse_policies([text])
    POLICIES.check(spec)
    built = make_policy(spec)
    if write_probe is not None:
        made = make_expectations(built)
        write_expectations(made, write_probe)
        return check_policy(built, made)
    folder = probe or probe_folder(spec, built)
    expectations = read_expectations(folder) if folder is not None else None
    if probe is not None and expectations is None:
        raise UsageError(f"There is no probe.json in {probe}; write one with --write-probe.")
    results = check_policy(built, expectations)
    return results if expectations is not None else [*results, without_expectations(folder)]
