"""`harness doctor`: is this machine ready?"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.examples import examples
from harness.errors import EXIT_FAILED

EXAMPLES = examples("harness doctor", "harness doctor --json")


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check this machine for the failures that are known to cost days: GL, versions, disk, LIBERO's resources."""
    from harness.doctor import CHECKS, Status, run_checks

    results = run_checks(CHECKS)
    if as_json:
        print(json.dumps([{**vars_of(result), "status": result.status.value} for result in results], indent=2))
    else:
        table = Table("check", "", "found", "what to do", box=None, pad_edge=False)
        for result in results:
            colour = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red"}[result.status]
            table.add_row(result.name, f"[{colour}]{result.status.value}[/{colour}]", result.found, result.remedy)
        Console().print(table)
    if any(result.status is Status.FAIL for result in results):
        raise typer.Exit(EXIT_FAILED)


def vars_of(result: object) -> dict[str, object]:
    """Fields of a slotted dataclass."""
    from dataclasses import asdict

    return asdict(result)  # type: ignore[call-overload, no-any-return]
