"""Examples under `--help`."""

from __future__ import annotations


def examples(*lines: str) -> str:
    """Format example commands for a verb's help; each line is "command  # what it does"."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  {line}" for line in lines)])
