"""`harness audit`: is a claimed gain provable, and does it survive other placements and other words?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.cli.values import require_ledgers
from harness.cli.verb import json_target
from harness.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.analysis.audit import Audit, GainClaim
    from harness.analysis.paired.pairing import Side

EXAMPLES = examples(
    "harness audit reports/base reports/candidate",
    "harness audit reports/all --base-policy flow --base-nfe 10 --policy flow:student --nfe 1",
    "harness audit reports/all reports/all-sampled reports/all-blank --policy mine --base-policy theirs",
)

OPTIONS = {
    "sampled placements": "--placements sampled --episodes 50",
    "blank instruction": "--instruction blank",
    "shuffled instruction": "--instruction shuffled",
}
"""Condition → options of `harness run` that make its ledger."""


PLACEHOLDER = "PATH/TO/"
"""Begin of what stands for the path of a suite's file."""


def command(
    ctx: typer.Context,
    ledgers: Annotated[
        list[str], typer.Argument(metavar="LEDGER...", help="As the benchmark is, and under other conditions.")
    ],
    base_policy: Annotated[str | None, typer.Option(help="Whom the claim is made against.")] = None,
    base_nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the base.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Who is claimed to be better.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the one that is better.")] = None,
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
) -> None:
    """Audit claimed gains: provable on the benchmark's episodes? Do they survive resampled placements and other words?

    What a ledger was run under is in its protocol: give them in any order. Without --policy and --base-policy every two
    policies are a claim, and the exit code is 0. For one chosen claim: 0 when it is provable and survives all that was
    asked, 1 when it is not provable or a gain is not shown elsewhere, 2 when nobody has run it elsewhere. What is
    missing is printed as commands.
    """
    require_ledgers(*ledgers)
    from harness.analysis.audit import ClaimChoice, audit
    from harness.analysis.paired.pairing import read_sides
    from harness.report.gate.audit import audit_findings, audit_json, audit_tables, render_audit_markdown
    from harness.report.json import json_text
    from harness.report.terminal import print_table
    from harness.spec.policy import PolicyAtNfe

    chosen = None
    if any(value is not None for value in (base_policy, base_nfe, policy, nfe)):
        chosen = ClaimChoice(PolicyAtNfe(base_policy, base_nfe), PolicyAtNfe(policy, nfe))
    found = audit([side for ledger in dict.fromkeys(ledgers) for side in read_sides(ledger)], chosen)
    missing = _missing(found)
    screen = Screen(stderr=markdown == "-")
    write_texts(
        [
            (markdown, lambda: render_audit_markdown(found, missing)),
            (json_target(ctx), lambda: json_text(audit_json(found, missing))),
        ]
    )
    for table in audit_tables(found):
        print_table(table, screen)
    for sentence in audit_findings(found):
        screen.say(f"- {sentence}")
    if missing:
        screen.say("Not run yet; the ledgers of these commands answer it:")
        for line in missing:
            screen.say(f"  {line}")
        if any(PLACEHOLDER in line for line in missing):
            screen.say(f"{PLACEHOLDER}…: the suite was given as a file, whose path no ledger keeps; put it there.")
    if chosen is not None:
        raise typer.Exit(_exit_code(found.claims[0]))


def _exit_code(claim: GainClaim) -> int:
    outcomes = {trial.outcome for trial in claim.trials}
    if not claim.provable or outcomes & {"not shown", "reversed"}:
        return EXIT_FAILED
    return EXIT_INCONCLUSIVE if "missing" in outcomes else 0


def _missing(found: Audit) -> list[str]:
    """Commands that make the ledgers which provable claims lack; of every claim where none is provable."""
    claims = [claim for claim in found.claims if claim.provable] or list(found.claims)
    lines: dict[str, None] = {}
    for condition, options in OPTIONS.items():
        lacking = [
            claim for claim in claims if any(one.condition == condition and not one.comparison for one in claim.trials)
        ]
        sides = {
            side.variant: side for claim in lacking for side in (claim.comparison.base, claim.comparison.candidate)
        }
        for nfe in sorted({variant.nfe for variant in sides}, key=lambda value: value or 0):
            same = [side for side in sides.values() if side.nfe == nfe]
            specs = [_spec(side) for side in same]
            words = [
                *("harness", "run", _suite(same[0].path)),
                *(part for spec in dict.fromkeys(specs) for part in ("-p", spec)),
                *(("--nfe", str(nfe)) if nfe is not None else ()),
                *options.split(),
                *("--out", f"reports/audit-{condition.partition(' ')[0]}" + (f"-nfe{nfe}" if nfe else "")),
            ]
            lines[shlex.join(words)] = None
    return list(lines)


def _spec(side: Side) -> str:
    """How a side's policy is given on the command line."""
    from harness.gate.rerun import read_recipe

    try:
        return read_recipe(side).spec.text
    except UsageError:
        return side.policy_id or "POLICY"


def _suite(ledger: str) -> str:
    """How the suite of a ledger is given to `harness run`; a placeholder where that is not known.

    A ledger holds the suite's text and not the path of its file: a suite that cannot be had by its name was a file.
    """
    import yaml

    from harness.ledger import open_ledger
    from harness.spec.resolve import names

    for text in reversed(open_ledger(ledger).rows("runs")["suite"].to_pylist()):
        data = yaml.safe_load(text or "")
        if isinstance(data, dict) and data.get("name"):
            name = str(data["name"])
            return name if name in names("suites") else f"{PLACEHOLDER}{name}.yaml"
    return "SUITE"
