"""Texts that go to a file or to standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from harness.errors import UsageError
from harness.screen import Screen


def write_texts(wanted: Iterable[tuple[str, Callable[[], str]]]) -> None:
    """Write each rendered text where it was asked for.

    Args:
        wanted: (file, "-" for standard output or "" for nowhere; what renders the text).

    Raises:
        UsageError: Two texts for standard output, or a file that cannot be written.
    """
    asked = [(target, render) for target, render in wanted if target]
    if sum(target == "-" for target, _ in asked) > 1:
        raise UsageError("Only one of the outputs can go to standard output ('-').")
    for target, render in asked:
        if target == "-":
            Screen().write(render())
            continue
        try:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).write_text(render(), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"Cannot write {target}: {error.strerror}. Name a file that can be written.") from error
