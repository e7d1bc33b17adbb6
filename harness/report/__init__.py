"""What people and other tools read: terminal, Markdown, HTML, JSON, Parquet.

Each rendering is imported when it is first used: a terminal needs no templates.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.html import render_html, write_html
    from harness.report.markdown import render_markdown
    from harness.report.parquet import write_parquet, write_summary
    from harness.report.terminal import render_terminal

__all__ = ["render_terminal", "render_html", "write_html", "render_markdown", "write_parquet", "write_summary"]

_HOMES = {
    "render_terminal": "terminal",
    "render_html": "html",
    "write_html": "html",
    "render_markdown": "markdown",
    "write_parquet": "parquet",
    "write_summary": "parquet",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"harness.report.{_HOMES[name]}"), name)
