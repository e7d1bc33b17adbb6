"""Puts the verbs together and turns errors into one message and an exit code."""

from __future__ import annotations

import sys

import click
import typer

import harness
from harness.cli import baseline, compare, doctor, gate, import_, listing, probe, report, run, validate
from harness.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, HarnessError

app = typer.Typer(
    name="harness",
    help="Benchmarks of vision-language-action policies: LIBERO success and latency, with intervals and provenance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
app.command("run", epilog=run.EXAMPLES)(run.command)
app.command("probe", epilog=probe.EXAMPLES)(probe.command)
app.command("report", epilog=report.EXAMPLES)(report.command)
app.command("compare", epilog=compare.EXAMPLES)(compare.command)
app.command("gate", epilog=gate.EXAMPLES)(gate.command)
app.add_typer(baseline.app, name="baseline")
app.command("import", epilog=import_.EXAMPLES)(import_.command)
app.command("list", epilog=listing.EXAMPLES)(listing.command)
app.command("validate", epilog=validate.EXAMPLES)(validate.command)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vla-harness {harness.__version__}")
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
        code = app(args=argv, prog_name="harness", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_OK
    except HarnessError as error:
        _complain(str(error))
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        typer.echo(error.format_message())
        return EXIT_USAGE
    except click.ClickException as error:
        _complain(f"{error.format_message()} See `harness {argv[0] if argv else ''} --help`.".replace("  ", " "))
        return EXIT_USAGE
    except (KeyboardInterrupt, click.Abort):
        _complain("Interrupted.")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_OK


def _complain(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
