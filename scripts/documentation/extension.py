"""The Sphinx extension of this documentation: generated parts of pages, and fences without test attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import checks
import columns
import commands
import fences
import notebooks
import python_names
import rules
import shapes

GENERATED: Mapping[str, Callable[[], str]] = {
    "commands": commands.render,
    "shapes": shapes.render,
    "rules": rules.render,
    "columns": columns.render,
    "aggregates": columns.render_aggregates,
    "machine checks": checks.render_machine,
    "known upstream": checks.render_upstream,
    "policy checks": checks.render_policy,
    "python names": python_names.render,
}
"""What stands in a page for `<!-- generated: NAME -->`."""
MARK = re.compile(r"<!-- generated: ([a-z_ ]+) -->")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("run_notebooks", True, "env", bool)
    app.connect("source-read", _fill)
    app.connect("env-get-outdated", _generated_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill(app: Any, docname: str, source: list[str]) -> None:
    """Fill in what is generated, and leave out what only tests read."""
    text = fences.without_attributes(source[0])
    source[0] = MARK.sub(lambda match: _generate(match[1], run=bool(app.config.run_notebooks)), text)


def _generate(name: str, *, run: bool) -> str:
    kind, _, stem = name.partition(" ")
    return notebooks.render(stem, run=run) if kind == "notebook" else GENERATED[name]()


def _generated_pages(app: Any, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Read these pages in every build: what they are generated from may have changed."""
    del app, added, changed, removed
    return [name for name in env.found_docs if MARK.search(env.doc2path(name).read_text())]
