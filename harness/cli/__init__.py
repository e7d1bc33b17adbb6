"""The command line: one file per verb, parsing and printing only."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `harness` command; exit codes are those of `harness.errors`."""
    from harness.cli.app import invoke
    from harness.screen import steady_streams

    steady_streams()
    sys.exit(invoke(sys.argv[1:] if argv is None else argv))
