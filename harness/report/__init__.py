"""What people and other tools read: terminal, Markdown, HTML, JSON, Parquet."""

from harness.report.html import render_html, write_html
from harness.report.markdown import render_markdown
from harness.report.parquet import write_parquet, write_summary
from harness.report.terminal import render_terminal

__all__ = ["render_terminal", "render_html", "write_html", "render_markdown", "write_parquet", "write_summary"]
