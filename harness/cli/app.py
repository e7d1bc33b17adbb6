"""Puts the verbs together and turns errors into one message and an exit code."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

import harness
from harness.cli.verb import Verb, without_flag_types
from harness.cli.verbs import VERBS
from harness.errors import EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HarnessError, UsageError
from harness.screen import Screen

# typer carries its own copy of click, and exports of its exceptions only the leaves
ClickException = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


class _Loaded(Mapping[str, Any]):
    """Verb → its command, imported when it is asked for: nobody waits for verbs that he does not use."""

    def __getitem__(self, name: str) -> Any:
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


@cache
def _load(name: str) -> Any:
    module = importlib.import_module(f"harness.cli.{VERBS[name].module}")
    own = typer.Typer(add_completion=False, rich_markup_mode="rich")
    if hasattr(module, "app"):
        own.add_typer(module.app, name=name)
        own.callback()(lambda: None)
        return typer.main.get_command(own).commands[name]  # type: ignore[attr-defined]
    own.command(name, cls=Verb, epilog=module.EXAMPLES)(module.command)
    return typer.main.get_command(own)


class _Verbs(TyperGroup):
    """The verbs; an interruption is said, where typer alone would end without a word."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Loaded()  # type: ignore[assignment]

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A verb as a list of verbs shows it; `resolve_command` has the verb itself."""
        entry = VERBS.get(cmd_name)
        return TyperCommand(cmd_name, help=entry.help, rich_markup_mode="rich") if entry is not None else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and self.commands[name or ""], rest

    def get_params(self, ctx: Any) -> list[Any]:
        return without_flag_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _complain("Interrupted.")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="harness",
    cls=_Verbs,
    help="Benchmarks of vision-language-action policies: LIBERO success and latency, with intervals and provenance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        Screen().say(f"vla-harness {harness.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    del version


def invoke(argv: list[str]) -> int:
    """Run the command line and return its exit code; errors become one message on standard error."""
    try:
        _refuse_empty(argv)
        code = app(args=argv, prog_name="harness", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_OK
    except HarnessError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("Interrupted.")
        return EXIT_INTERRUPTED
    except Exception as error:
        if isinstance(error, ClickException):
            return _explain_usage(error, argv)
        traceback.print_exc()
        _complain("This is a fault of vla-harness, and no verdict. Please report it with the lines above.")
        return EXIT_INFRASTRUCTURE


def _refuse_empty(argv: list[str]) -> None:
    """Refuse an empty value, as an unset shell variable leaves it: as a path it would be the working directory.

    Raises:
        UsageError: Names the option.
    """
    for place, word in enumerate(argv):
        option, _, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if value.strip() or (option and "=" not in word):
            continue
        before = argv[place - 1] if place else ""
        named = option or (before if before.startswith("-") else "An argument")
        raise UsageError(
            f"{named} is empty. Give it a value or leave it out; a shell variable that is not set leaves nothing."
        )


def _explain_usage(error: Exception, argv: list[str]) -> int:
    """Print what was wrong with the command line; without arguments that is the help itself."""
    message = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        Screen().write(message + "\n")
    else:
        verb = next((word for word in argv if not word.startswith("-")), "")
        known = verb in VERBS
        sentence = message.replace("Value error, ", "").rstrip(".")
        stop = "" if sentence.endswith("?") else "."
        _complain(f"{sentence}{stop} See `harness {verb + ' ' if known else ''}--help`.")
    return EXIT_USAGE


def _complain(message: str) -> None:
    Screen(stderr=True).say(f"error: {message}")
