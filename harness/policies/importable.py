"""Whether "package.module:Factory" can be imported, told from files alone: nothing of the module is executed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from harness.errors import NoPolicyError, UsageError, unknown_name
from harness.policies.registry import PolicyRequest


def check(spec: PolicyRequest, local: bool) -> None:
    """Check the form of a `python:` policy's path and, on this machine, that module and factory are there.

    Raises:
        UsageError: Another form, or the module defines no such name.
        NoPolicyError: There is no such module.
    """
    module, _, attribute = (spec.path or "").partition(":")
    if not (module and attribute):
        raise UsageError(
            f'Policy "python:{spec.path or ""}" names no factory; write python:package.module:Factory (in YAML, path: '
            '"package.module:Factory").'
        )
    if not local:
        return
    loaded = sys.modules.get(module)
    found = loaded.__spec__ if loaded is not None else _find(module)
    if found is None and loaded is None:
        raise NoPolicyError(
            f"Policy 'python:{spec.path}' needs the module {module!r}, which is not on the path; install it, or run "
            "where it lies with PYTHONPATH=."
        )
    names = _names(found) if found is not None else set(dir(loaded))
    first = attribute.partition(".")[0]
    if names is not None and first not in names:
        raise unknown_name(f"factory in {module}", first, sorted(name for name in names if not name.startswith("_")))


def _find(module: str) -> ModuleSpec | None:
    """Find a module without importing its parents, which may be heavy."""
    paths: list[str] | None = None
    found: ModuleSpec | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = PathFinder.find_spec(name, paths)
        if found is None:
            return None
        paths = list(found.submodule_search_locations or [])
    return found


def _names(found: ModuleSpec) -> set[str] | None:
    """Names that a module's text defines at its top level; None when they cannot be told from it."""
    source = Path(found.origin or "")
    if source.suffix != ".py":
        return None
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    names = set(_defined(tree.body))
    return None if names & {"*", "__getattr__"} else names


def _defined(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
        else:
            # Assignments, also those under `if` and `try`: whatever is bound anywhere in them counts.
            yield from (
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            )
            yield from _defined([inner for inner in ast.walk(statement) if isinstance(inner, _BINDS)])


_BINDS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
