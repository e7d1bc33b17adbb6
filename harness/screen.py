"""What people read: the one place that prints. Text is shown as it is, and a screen that cannot take it stops nothing.

Task names, paths, labels and errors are not ours: brackets in them are no markup, words between colons no emoji, and
control characters do not reach a terminal.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import OutputError

Part = str | tuple[str, str]
"""A piece of text, or (text, Rich style)."""

SAID = "harness.said"
"""Logger of everything that is said; silent unless somebody gives it a handler."""
logging.getLogger(SAID).propagate = False
logging.getLogger(SAID).addHandler(logging.NullHandler())

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Screen:
    """A terminal, a log or a pipe that somebody reads."""

    def __init__(self, console: Console | None = None, *, stderr: bool = False) -> None:
        """Print to a Rich console; by default to standard output, or with `stderr` to standard error."""
        self.console = console or Console(stderr=stderr)
        """For live displays; text goes through `say`."""

    @property
    def is_terminal(self) -> bool:
        """Whether somebody watches: else lines are as long as they need to be, and nothing is cut or folded."""
        return self.console.is_terminal

    @property
    def width(self) -> int | None:
        """Columns to keep within: the terminal's, or those that COLUMNS asks for; None where any length will do."""
        asked = os.environ.get("COLUMNS", "")
        return self.console.width if self.is_terminal or (asked.isdecimal() and int(asked)) else None

    def say(self, *parts: Part, prose: bool = False) -> None:
        """Print one line (or several), verbatim; with `prose`, wrapped at words where lines have a width."""
        text = verbatim(*parts)
        self.console.print(text, soft_wrap=not (prose and self.width is not None))
        note(text.plain)

    def rows(self, rows: Sequence[Sequence[Part]]) -> None:
        """Print rows in columns: wrapped where lines have a width, else aligned with spaces and never cut."""
        cells = [[verbatim(part) for part in row] for row in rows]
        if not cells:
            return
        if self.width is not None:
            grid = Table.grid(padding=(0, 1))
            for row in cells:
                grid.add_row(*row)
                note("  ".join(cell.plain for cell in row))
            self.console.print(grid)
            return
        widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = (cell.plain + " " * (width - cell.cell_len) for cell, width in zip(row, widths, strict=True))
            self.say("  ".join(padded).rstrip())

    def write(self, text: str) -> None:
        """Write a document (JSON, Markdown, XML) to standard output as it is.

        Raises:
            OutputError: It could not be written, for another reason than a reader that has gone.
        """
        stream: IO[str] = getattr(sys.stdout, "documents", sys.stdout)
        stream.write(text)
        stream.flush()
        fault = getattr(getattr(getattr(stream, "buffer", None), "raw", None), "fault", None)
        if fault is not None and fault.errno != errno.EPIPE:
            raise OutputError(
                f"Standard output cannot be written ({fault.strerror}), so what was to go there is lost. Name a file "
                "in place of '-'."
            )


def note(text: str) -> None:
    """Put a line into the log of what is said, where there is one (`--log`), and nowhere else."""
    if text.strip():
        logging.getLogger(SAID).info("%s", text)


@contextmanager
def only_documents(*, quiet: bool) -> Iterator[None]:
    """Keep standard output for documents: what else is printed goes to standard error, or nowhere with `quiet`."""
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(_Diverted(nowhere if quiet else sys.stderr, sys.stdout)),
    ):
        yield


class _Diverted:
    """Standard output that goes elsewhere, and knows where documents still go."""

    def __init__(self, stream: IO[str], documents: IO[str]) -> None:
        self._stream, self.documents = stream, getattr(documents, "documents", documents)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def verbatim(*parts: Part) -> Text:
    """Text for Rich that shows every character: nothing in it is markup or emoji, control characters are spelled."""
    return Text.assemble(
        *(spelled(part) if isinstance(part, str) else (spelled(part[0]), part[1]) for part in parts), end="\n"
    )


def spelled(text: str) -> str:
    r"""Control characters as `\x1b`, so that a foreign name cannot steer a terminal; new lines and tabs stay."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def steady_streams() -> None:
    """Have standard output and error never raise: what cannot be encoded or written is replaced, or left out.

    A reader that goes away (`| head`), a full disk behind a log, an ASCII terminal: none of them may change what a run
    does or what a gate says.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        raw = SteadyFile(descriptor, name) if stream is not None else io.FileIO(os.devnull, "w")
        steady = io.TextIOWrapper(
            io.BufferedWriter(raw),
            encoding=stream.encoding if stream is not None else "utf-8",
            errors="replace",
            line_buffering=stream is None or stream.line_buffering,
        )
        setattr(sys, name, steady)


class SteadyFile(io.FileIO):
    """A file descriptor whose writes never raise. After the first that fails nothing more is written."""

    def __init__(self, descriptor: int, name: str) -> None:
        """Write to a descriptor, and leave it open at the end."""
        super().__init__(descriptor, "w", closefd=False)
        self._label = name
        self.fault: OSError | None = None

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Write, or drop; the number of bytes taken."""
        if self.fault is None:
            try:
                return super().write(data)
            except OSError as error:
                self.fault = error
                if error.errno != errno.EPIPE and self._label == "stdout":
                    print(f"warning: standard output cannot be written ({error.strerror}).", file=sys.stderr)
        return memoryview(data).nbytes
