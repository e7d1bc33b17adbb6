"""What every verb has: `--json`, `--quiet`, `--verbose`, `--log`, completion of names, and how its help reads."""

from __future__ import annotations

import json as json_module
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from harness.cli.completion import completer
from harness.errors import HarnessError, UsageError
from harness.screen import SAID, only_documents, spelled

PANEL = "What is said, and where"


def _shared(
    json: Annotated[
        str,
        typer.Option(
            metavar="[FILE]",
            help="Write one JSON object to a file, or to standard output with '-' or no value.",
            rich_help_panel=PANEL,
        ),
    ] = "",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors and documents only.", rich_help_panel=PANEL)
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Print what libraries log, and where an error arose.", rich_help_panel=PANEL
        ),
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(help="Append what is said to this file, each line with its time.", rich_help_panel=PANEL),
    ] = None,
) -> None:
    """The options of every verb."""


def _shared_params() -> list[Any]:
    """`_shared` as parameters of a command."""
    app = typer.Typer(add_completion=False)
    app.command()(_shared)
    return list(typer.main.get_command(app).params)


SHARED = ("json", "quiet", "verbose", "log")


def without_flag_types(params: list[Any]) -> list[Any]:
    """Leave the type of flags out of their help: typer writes `<bool>` behind what takes no value."""
    for param in params:
        if getattr(param, "is_bool_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class Verb(TyperCommand):
    """A command of the harness, with the options of every verb."""

    def __init__(self, *args: Any, params: list[Any], **attributes: Any) -> None:
        """As typer makes it, with the shared options last."""
        super().__init__(*args, params=[*params, *_shared_params()], **attributes)
        for param in self.params:
            param._custom_shell_complete = param._custom_shell_complete or completer(param.name)

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options, as the help shows them."""
        return without_flag_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let `--json` stand without a value."""
        words: list[str] = []
        for place, word in enumerate(args):
            follower = args[place + 1] if place + 1 < len(args) else "--"
            bare = word == "--json" and follower.startswith("-") and follower != "-"
            words.append("--json=-" if bare and "--" not in args[:place] else word)
        return super().parse_args(ctx, words)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb with its words where they were asked for."""
        shared = {name: ctx.params.pop(name) for name in SHARED}
        ctx.obj = Documents(shared["json"] or "")
        ctx.obj.check()
        with ExitStack() as stack:
            if shared["json"] == "-" or shared["quiet"]:
                stack.enter_context(only_documents(quiet=shared["quiet"]))
            if shared["verbose"] or shared["log"]:
                stack.enter_context(_logging(verbose=shared["verbose"], log=shared["log"]))
            try:
                return super().invoke(ctx)
            except Exception as error:
                if not isinstance(error, typer.Exit):
                    logging.getLogger(SAID).error("error: %s", error)
                if shared["verbose"] and isinstance(error, HarnessError):
                    traceback.print_exc()
                raise


@dataclass(frozen=True)
class Documents:
    """Where the JSON of a verb goes; the `obj` of its context."""

    json: str
    """File, "-" for standard output, "" for nowhere."""

    def check(self) -> None:
        """Refuse a folder.

        Raises:
            UsageError: `--json` has taken what follows it, which is a folder.
        """
        if self.json not in ("", "-") and Path(self.json).is_dir():
            raise UsageError(
                f"--json {self.json}: that is a folder. Put --json last, or write --json=- for standard output."
            )


def json_target(ctx: typer.Context) -> str:
    """Where `--json` sends its object: a file, "-" for standard output, "" for nowhere."""
    documents: Documents = ctx.obj
    return documents.json


def tell_json(ctx: typer.Context, render: Callable[[], Mapping[str, Any]]) -> None:
    """Write the object of `--json`, if it was asked for.

    Args:
        ctx: Context of the verb.
        render: Makes the object, of JSON's own types; its keys are those of `harness.cli.shapes`.
    """
    from harness.cli.output import write_texts

    write_texts([(json_target(ctx), lambda: plain_json(render()))])


def plain_json(content: Mapping[str, Any]) -> str:
    """An object of JSON's own types, as text; a number that is none is refused."""
    return json_module.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def _logging(*, verbose: bool, log: Path | None) -> Iterator[None]:
    """Send what libraries log to standard error and into a file, and what the harness says into the file."""
    root, said = logging.getLogger(), logging.getLogger(SAID)
    before = root.level, said.level
    handlers: list[logging.Handler] = [logging.StreamHandler()] if verbose else []
    if log is not None:
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(log, encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"Cannot write --log {log}: {error.strerror}. Name a file that can be written.") from error
        said.setLevel(logging.INFO)
        said.addHandler(handlers[-1])
    form = _Plain("%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in handlers:
        handler.setFormatter(form)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before[0])
        said.setLevel(before[1])
        for handler in handlers:
            root.removeHandler(handler)
            said.removeHandler(handler)
            handler.close()


class _Plain(logging.Formatter):
    """Lines of a log: what the harness says without a level and name, and no control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """One or several lines, each with its time."""
        if record.name == SAID:
            stamp = self.formatTime(record)
            return "\n".join(f"{stamp} {line}".rstrip() for line in spelled(record.getMessage()).splitlines())
        return spelled(super().format(record))
