"""The command line: one file per verb, parsing and printing only."""

from __future__ import annotations

import sys

from harness.errors import EXIT_INTERRUPTED
from harness.interrupts import interruptible


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `harness` command; exit codes are those of `harness.errors`."""
    try:
        with interruptible():
            from harness.cli.app import invoke
            from harness.screen import steady_streams

            steady_streams()
            code = invoke(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        sys.stderr.write("error: Interrupted.\n")
        code = EXIT_INTERRUPTED
    sys.exit(code)
