"""`harness list`: what there is to name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from harness.cli.examples import examples

EXAMPLES = examples(
    "harness list suites", "harness list policies", "harness list profiles", "harness list tasks libero_spatial"
)


ABOUT = {
    "scripted": ("scripted", "expert on object poses; the positive control (libero_spatial, libero_object)"),
    "noop": ("noop", "does nothing; the negative control"),
    "random": ("random", "uniform actions, keyed by episode; a negative control"),
    "flow": ("flow[:PATH]", "small flow-matching chunk policy in torch; the trained teacher, flow:student, or yours"),
    "lerobot": ("lerobot:REPO_OR_PATH", "any LeRobot policy; lerobot:pi05?weights=random for latency only"),
    "openpi": ("openpi://HOST:PORT", "a policy behind `harness serve`, or behind any server of openpi's protocol"),
    "python": ("python:MODULE:FACTORY", "a policy of your own, from an importable factory"),
}
"""Policy kind → how it is written, and what it is."""


class What(Enum):
    """What can be listed."""

    suites = "suites"
    policies = "policies"
    profiles = "profiles"
    tasks = "tasks"


def command(
    what: Annotated[What, typer.Argument(help="What to list.")],
    suite: Annotated[str, typer.Argument(help="LIBERO suite, for `tasks`.")] = "libero_spatial",
) -> None:
    """List suites, policies, hardware profiles, or the tasks of a LIBERO suite."""
    rows: dict[What, Callable[[], Iterator[tuple[str, str]]]] = {
        What.suites: _suites,
        What.policies: _policies,
        What.profiles: _profiles,
        What.tasks: lambda: _tasks(suite),
    }
    table = Table(what.value[:-1], "", box=None, pad_edge=False, show_header=False)
    for name, text in rows[what]():
        table.add_row(f"[bold]{name}[/bold]", text)
    Console().print(table)


def _suites() -> Iterator[tuple[str, str]]:
    from harness.spec.resolve import load_yaml, names
    from harness.spec.suite import is_parametrised

    for name, path in names("suites").items():
        if not is_parametrised(path):
            yield name, str(load_yaml(path).get("description", ""))
            continue
        for variant in _variants():
            yield f"{name}:{variant}", ""


def _variants() -> list[str]:
    """LIBERO-PRO suites whose resources are complete in the installed package."""
    from harness.sim.worlds import get_world
    from harness.spec.resolve import names

    return [suite for suite in get_world("libero").suites() if suite not in names("suites")]


def _policies() -> Iterator[tuple[str, str]]:
    from harness.policies.registry import POLICIES

    for kind in POLICIES.kinds():
        yield ABOUT.get(kind, (kind, "from a plugin"))


def _profiles() -> Iterator[tuple[str, str]]:
    from harness.spec.profile import load_profile
    from harness.spec.resolve import names

    for name in names("hardware_profiles"):
        yield name, load_profile(name).title


def _tasks(suite: str) -> Iterator[tuple[str, str]]:
    from harness.sim.worlds import get_world

    description = get_world("stub" if suite.startswith("stub") else "libero").describe(suite)
    for task_id, instruction in enumerate(description.instructions):
        yield str(task_id), f"{instruction} ({description.n_init_states[task_id]} init states)"
