"""`harness list`: what there is to name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import typer

from harness.cli.examples import examples
from harness.cli.verb import tell_json
from harness.errors import UsageError, unknown_name
from harness.screen import Part, Screen

EXAMPLES = examples(
    "harness list suites",
    "harness list policies",
    "harness list checkpoints --json",
    "harness list worlds",
    "harness list profiles",
    "harness list profiles --compare a100-sxm-80gb,dgx-spark-gb10",
    "harness list tasks libero_spatial",
    "harness list columns episodes  # the ledger's table, column by column",
)


Entry = dict[str, str | int]
"""One line of a list: what it is called, and what is said of it."""


What = Literal["suites", "policies", "worlds", "checkpoints", "gates", "profiles", "architectures", "tasks", "columns"]


def command(
    ctx: typer.Context,
    what: Annotated[What, typer.Argument(help="What to list.")],
    name: Annotated[
        str | None,
        typer.Argument(help="Suite of a world, for `tasks` (else libero_spatial); table, for `columns` (else all)."),
    ] = None,
    compare: Annotated[str, typer.Option(help="Profiles to set side by side, with commas between them.")] = "",
) -> None:
    """List what can be named: suites, policies, worlds, checkpoints, gates, profiles, architectures, tasks, columns."""
    if name is not None and what not in ("tasks", "columns"):
        raise UsageError(f"`harness list {what}` takes no name, yet it was given {name!r}. Leave it out.")
    if compare:
        _compare(ctx, what, compare)
        return
    entries: dict[What, Callable[[], Iterator[Entry]]] = {
        "suites": _suites,
        "policies": _policies,
        "checkpoints": _checkpoints,
        "gates": _gates,
        "worlds": _worlds,
        "profiles": _profiles,
        "architectures": _architectures,
        "tasks": lambda: _tasks(name or "libero_spatial"),
        "columns": lambda: _columns(name),
    }
    listed = list(entries[what]())
    tell_json(ctx, lambda: {what: listed})
    screen = Screen()
    rows: list[tuple[Part, ...]] = [tuple(listed[0])] if listed and len(listed[0]) > 2 else []
    for entry in listed:
        first, *rest = map(str, entry.values())
        rows.append(((first, "bold"), *rest))
    screen.rows(rows)


def _suites() -> Iterator[Entry]:
    from harness.spec.resolve import load_yaml, names
    from harness.spec.suite import is_parametrised

    for name, path in names("suites").items():
        if not is_parametrised(path):
            yield {"name": name, "description": str(load_yaml(path).get("description", ""))}
            continue
        for variant in _variants(str(load_yaml(path).get("world", "libero"))):
            yield {"name": f"{name}:{variant}", "description": ""}


def _variants(world: str) -> list[str]:
    """Suites of a world that no file is named for: of LIBERO, those of LIBERO-PRO whose resources are complete."""
    from harness.spec.resolve import names
    from harness.worlds.registry import get_world

    return [suite for suite in get_world(world).suites() if suite not in names("suites")]


def _policies() -> Iterator[Entry]:
    from harness.policies.registry import POLICIES

    for kind in POLICIES.kinds():
        written, about = POLICIES.describe(kind)
        yield {"name": written, "description": about}


def _worlds() -> Iterator[Entry]:
    from harness.errors import SimulatorError
    from harness.worlds.registry import WORLDS

    for name in WORLDS.names():
        lacks = ""
        try:
            world = WORLDS.get(name)
        except SimulatorError as error:
            yield {"name": name, "description": str(error)}
            continue
        declared = world.interface
        try:
            world.require_installed()
        except SimulatorError as error:
            lacks = f" {error}"
        actions = " or ".join(str(space) for space in declared.actions.values())
        about = f"cameras {', '.join(declared.cameras)}; actions {actions}; success: {declared.success}.{lacks}"
        yield {"name": name, "description": about}


def _profiles() -> Iterator[Entry]:
    from harness.spec.profile import load_profile, profile_names

    for name in profile_names():
        yield {"name": name, "description": load_profile(name).title}


def _checkpoints() -> Iterator[Entry]:
    from harness.policies.flow.shipped import shipped

    for name, folder in shipped().items():
        yield {"name": f"flow:{name}", "description": str(folder)}


def _gates() -> Iterator[Entry]:
    from harness.spec.resolve import names
    from harness.spec.rules import load_rules

    for name in names("gates"):
        yield {"name": name, "description": load_rules(name).description}


def _architectures() -> Iterator[Entry]:
    from harness.spec.architecture import architecture_names, load_architecture

    for name in architecture_names():
        yield {"name": name, "description": load_architecture(name).title}


def _compare(ctx: typer.Context, what: What, names: str) -> None:
    from harness.report.tables.scaling import profiles_json, profiles_table
    from harness.report.terminal import print_table
    from harness.spec.profile import load_profile

    chosen = [part.strip() for part in names.split(",") if part.strip()]
    if what != "profiles" or len(chosen) < 2:
        raise UsageError("--compare takes two or more profiles: `harness list profiles --compare h200,rtx-4090`.")
    profiles = [load_profile(name) for name in chosen]
    tell_json(ctx, lambda: {"figures": profiles_json(profiles)})
    print_table(profiles_table(profiles), Screen())


def _tasks(suite: str) -> Iterator[Entry]:
    from harness.worlds.registry import WORLDS

    description = WORLDS.of_suite(suite).describe(suite)
    for task_id, instruction in enumerate(description.instructions):
        yield {"task": task_id, "instruction": instruction, "init states": description.n_init_states[task_id]}


def _columns(table: str | None) -> Iterator[Entry]:
    from harness.ledger.schema import COLUMNS

    if table is not None and table not in COLUMNS:
        raise unknown_name("ledger table", table, COLUMNS)
    for name, columns in COLUMNS.items():
        for column in columns if table in (None, name) else ():
            yield {
                **({} if table else {"table": name}),
                "column": column.name,
                "type": str(column.type),
                "unit": column.unit or "",
                "description": column.description + (f" One of: {', '.join(column.values)}." if column.values else ""),
            }
