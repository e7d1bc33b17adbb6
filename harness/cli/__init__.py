"""The command line: one file per verb, parsing and printing only."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `harness` command. Exits 0 success, 1 failed, 2 inconclusive, 64 usage, 130 interrupted."""
    from harness.cli.app import invoke

    sys.exit(invoke(sys.argv[1:] if argv is None else argv))
