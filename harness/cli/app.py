"""Puts the verbs together and turns errors into one message and an exit code."""

from __future__ import annotations

import traceback
from typing import Any

import typer
from typer.core import TyperGroup

import harness
from harness.cli import (
    agree,
    audit,
    baseline,
    checkpoint,
    cluster,
    compare,
    delay,
    doctor,
    gate,
    import_,
    ledger,
    listing,
    nightly,
    plan,
    predict,
    prefix,
    probe,
    replay,
    report,
    run,
    serve,
    validate,
    watch,
)
from harness.cli.verb import Verb, without_flag_types
from harness.errors import EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HarnessError, UsageError
from harness.screen import Screen

# typer carries its own copy of click, and exports of its exceptions only the leaves
ClickException = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


class _Verbs(TyperGroup):
    """The verbs; an interruption is said, where typer alone would end without a word."""

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
    add_completion=False,
    rich_markup_mode="rich",
)
app.command("run", cls=Verb, epilog=run.EXAMPLES)(run.command)
app.command("probe", cls=Verb, epilog=probe.EXAMPLES)(probe.command)
app.command("prefix", cls=Verb, epilog=prefix.EXAMPLES)(prefix.command)
app.command("predict", cls=Verb, epilog=predict.EXAMPLES)(predict.command)
app.command("serve", cls=Verb, epilog=serve.EXAMPLES)(serve.command)
app.command("report", cls=Verb, epilog=report.EXAMPLES)(report.command)
app.command("replay", cls=Verb, epilog=replay.EXAMPLES)(replay.command)
app.command("compare", cls=Verb, epilog=compare.EXAMPLES)(compare.command)
app.command("agree", cls=Verb, epilog=agree.EXAMPLES)(agree.command)
app.command("delay", cls=Verb, epilog=delay.EXAMPLES)(delay.command)
app.command("gate", cls=Verb, epilog=gate.EXAMPLES)(gate.command)
app.command("audit", cls=Verb, epilog=audit.EXAMPLES)(audit.command)
app.add_typer(baseline.app, name="baseline")
app.command("import", cls=Verb, epilog=import_.EXAMPLES)(import_.command)
app.command("list", cls=Verb, epilog=listing.EXAMPLES)(listing.command)
app.command("validate", cls=Verb, epilog=validate.EXAMPLES)(validate.command)
app.command("watch", cls=Verb, epilog=watch.EXAMPLES)(watch.command)
app.command("nightly", cls=Verb, epilog=nightly.EXAMPLES)(nightly.command)
app.add_typer(ledger.app, name="ledger")
app.add_typer(cluster.app, name="cluster")
app.add_typer(checkpoint.app, name="checkpoint")
app.add_typer(plan.app, name="plan")
app.command("doctor", cls=Verb, epilog=doctor.EXAMPLES)(doctor.command)


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
        known = verb in {command.name for command in app.registered_commands}
        sentence = message.replace("Value error, ", "").rstrip(".")
        stop = "" if sentence.endswith("?") else "."
        _complain(f"{sentence}{stop} See `harness {verb + ' ' if known else ''}--help`.")
    return EXIT_USAGE


def _complain(message: str) -> None:
    Screen(stderr=True).say(f"error: {message}")
