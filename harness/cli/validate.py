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
    """Check suite files, their policies and their protocols, without running anything."""
    from harness.policies.ability import require_able
    from harness.policies.registry import POLICIES
    from harness.spec import load_suite

    for name in suites:
        suite = load_suite(name)
        # Imported here, so that a mistake in the file is told before anything heavy loads.
        from harness.cluster.prepare import check_tasks

        check_tasks(suite)
        for policy in (*suite.policies, *(suite.probe.policies if suite.probe else ())):
            # A suite is valid wherever its checkpoints lie; whether they are here is asked before a run.
            POLICIES.check(policy, local=False)
        asked = {each.suite: None if each.tasks == "all" else each.tasks for each in suite.tasks}
        for policy in suite.policies:
            info = POLICIES.stated_info(policy)
            if info is not None:
                require_able(policy.label, info, asked, suite.protocol.control_mode)
        if resolved:
            Screen().write(suite.to_yaml())
        else:
            Screen().say(f"{name}: valid ({suite.description})")
