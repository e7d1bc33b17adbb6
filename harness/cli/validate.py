"""`harness validate`: read a suite, run nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.examples import examples
from harness.cli.timing import look_up
from harness.cli.verb import json_target, tell_json
from harness.errors import HarnessError, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.clocks import DelaySource
    from harness.spec import Suite
    from harness.spec.observation import PolicyInfo
    from harness.spec.policy import PolicySpec

EXAMPLES = examples("harness validate suites/mine.yaml", "harness validate libero_pro:libero_spatial_swap")


def command(
    ctx: typer.Context,
    suites: Annotated[list[str], typer.Argument(metavar="SUITE...", help="Names or paths of suites.")],
    resolved: Annotated[bool, typer.Option("--resolved", help="Print the suite with everything filled in.")] = False,
) -> None:
    """Check suite files, their policies and their protocols, without running anything; every problem is told."""
    from harness.spec import load_suite

    problems: list[HarnessError] = []
    told: list[dict[str, Any]] = []
    for name in suites:
        try:
            suite = load_suite(name)
            found = _problems(suite)
        except HarnessError as error:
            found = [error]
        problems += found
        told.append({"suite": name, "valid": not found, "problems": list(map(str, found))})
        if found:
            continue
        if resolved:
            told[-1]["resolved"] = suite.model_dump(mode="json")
        if resolved and json_target(ctx) != "-":
            Screen().write(suite.to_yaml())
        else:
            Screen().say(f"{name}: valid ({suite.description})")
    tell_json(ctx, lambda: {"suites": told})
    if len(problems) == 1:
        raise problems[0]
    if problems:
        joined = UsageError("\n  ".join([f"{len(problems)} problems:", *map(str, problems)]))
        joined.exit_code = max(problem.exit_code for problem in problems)
        raise joined


def _problems(suite: Suite) -> list[HarnessError]:
    """Everything that is wrong with a suite: tasks that do not exist, policies that are unknown or cannot do them."""
    # Imported here, so that a mistake in the file is told before anything heavy loads.
    from harness.cluster.cells import plan_cells
    from harness.cluster.prepare import check_infos, check_tasks, place_policies, plan_variants
    from harness.policies.registry import POLICIES

    found: list[HarnessError] = []

    def check(what: Callable[[], object]) -> None:
        try:
            what()
        except HarnessError as error:
            if str(error) not in map(str, found):
                found.append(error)

    check(partial(place_policies, suite))
    for task_set in suite.tasks:
        check(partial(check_tasks, suite.model_copy(update={"tasks": (task_set,)})))
    sources: list[DelaySource] = []
    if suite.latency:
        check(lambda: sources.extend(look_up(suite, None, None)))
    for policy in (*suite.policies, *(suite.probe.policies if suite.probe else ())):
        # A suite is valid wherever its checkpoints lie; whether they are here is asked before a run.
        check(partial(POLICIES.check, policy, local=False))
    for policy, task_set in product(suite.policies, suite.tasks):
        # An unknown kind or option is told above.
        with suppress(HarnessError):
            info = _info_in(suite, policy)
            if info is not None:
                check(partial(check_infos, {policy.label: info}, suite.model_copy(update={"tasks": (task_set,)})))
    for policy in suite.policies:
        with suppress(HarnessError):
            info = _info_in(suite, policy)
            if info is not None and (sources or not suite.latency):
                infos = {policy.label: info}
                check(partial(plan_cells, suite, sources, plan_variants(infos, suite.nfe, asked=False), infos))
    return found


def _info_in(suite: Suite, policy: PolicySpec) -> PolicyInfo | None:
    """What a policy says of itself in the suite's world, where that is known without torch, files or a connection."""
    from harness.policies.registry import POLICIES
    from harness.worlds.registry import get_world

    space = get_world(suite.world).interface.space(suite.protocol.control_mode)
    return POLICIES.stated_info(policy, space)
