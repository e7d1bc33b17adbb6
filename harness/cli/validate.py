"""`harness validate`: read a suite, run nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.screen import Screen

EXAMPLES = examples("harness validate suites/mine.yaml", "harness validate libero_pro:libero_spatial_swap")


def command(
    suites: Annotated[list[str], typer.Argument(metavar="SUITE...", help="Names or paths of suites.")],
    resolved: Annotated[bool, typer.Option("--resolved", help="Print the suite with everything filled in.")] = False,
) -> None:
    """Check suite files, their policies' kinds and their protocols, without running anything."""
    from harness.errors import unknown_name
    from harness.policies.registry import POLICIES
    from harness.spec import load_suite

    for name in suites:
        suite = load_suite(name)
        for policy in (*suite.policies, *(suite.probe.policies if suite.probe else ())):
            if policy.kind not in POLICIES.kinds():
                raise unknown_name("policy", policy.kind, POLICIES.kinds())
        if resolved:
            Screen().write(suite.to_yaml())
        else:
            Screen().say(f"{name}: valid ({suite.description})")
