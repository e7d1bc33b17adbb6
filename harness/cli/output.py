"""Texts that go to a file or to standard output."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness.cli.verb import tell_json
from harness.errors import EXIT_FAILED, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.ledger.copy import CopyResult


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


def tell_copied(ctx: typer.Context, result: CopyResult, target: str) -> None:
    """Say what a copy did, and end with 1 where a file at the destination differs."""
    tell_json(ctx, lambda: {"target": target, **asdict(result)})
    screen = Screen()
    screen.say(
        f"{len(result.copied)} files copied and verified ({result.bytes_copied / 1e6:.1f} MB), {len(result.present)} "
        f"were there already, {len(result.only_there)} are only there and stay"
    )
    for name in result.differing:
        screen.say(f"differs, left as it is: {target.rstrip('/')}/{name}")
    if result.differing:
        raise typer.Exit(EXIT_FAILED)


def repeated_command() -> str:
    """The command line that this process was started with."""
    return shlex.join(["harness", *sys.argv[1:]])
