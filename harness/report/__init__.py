"""What people read: terminal, Markdown, HTML."""

from harness.report.html import render_html, write_html
from harness.report.markdown import render_markdown
from harness.report.terminal import render_terminal

__all__ = ["render_terminal", "render_html", "write_html", "render_markdown"]
