"""Notebooks as pages: jupytext's percent scripts, run, with what they print and draw."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "notebooks"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell, and what came of it."""

    kind: str
    """"markdown" or "code"."""
    source: str
    printed: str = ""
    figures: tuple[str, ...] = ()
    """SVG documents."""


def run_notebook(path: Path) -> list[Cell]:
    """Run every code cell in one namespace, in the repository's root."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(ROOT):
        return [_run(cell.source, namespace, path) if cell.kind == "code" else cell for cell in read_notebook(path)]


def read_notebook(path: Path) -> list[Cell]:
    """The cells of a script, not run."""
    return [Cell(cell.cell_type, cell.source) for cell in jupytext.read(path, fmt="py:percent").cells]


def render(stem: str, *, run: bool) -> str:
    """A notebook as Markdown, below the title of the page that holds it.

    Args:
        stem: Name of the script, without its ending.
        run: Whether to run it, for what it prints and draws.
    """
    path = FOLDER / f"{stem}.py"
    cells = run_notebook(path) if run else read_notebook(path)
    return "\n\n".join(part for cell in cells for part in _parts(cell))


def _parts(cell: Cell) -> list[str]:
    if cell.kind == "markdown":
        return ["\n".join(line for line in cell.source.splitlines() if not line.startswith("# "))]
    printed = [f"```text\n{cell.printed.rstrip()}\n```"] if cell.printed else []
    return [f"```python\n{cell.source}\n```", *printed, *(f'<div class="figure">{each}</div>' for each in cell.figures)]


def _run(source: str, namespace: dict[str, Any], path: Path) -> Cell:
    os.environ.setdefault("MPLBACKEND", "Agg")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, str(path), "exec"), namespace)  # noqa: S102 - the project's own examples
    return Cell("code", source, printed.getvalue(), tuple(_figures()))


def _figures() -> list[str]:
    """What matplotlib holds, as SVG; closed afterwards."""
    plots = sys.modules.get("matplotlib.pyplot")
    if plots is None:
        return []
    found = []
    for number in plots.get_fignums():
        picture = io.StringIO()
        plots.figure(number).savefig(picture, format="svg", bbox_inches="tight")
        found.append(picture.getvalue()[picture.getvalue().index("<svg") :])
    plots.close("all")
    return found
