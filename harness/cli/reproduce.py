"""`harness reproduce`: an archive run again, and what came out differently."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.verb import tell_json
from harness.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError
from harness.screen import Screen

if TYPE_CHECKING:
    from harness.spec import PolicySpec, Suite

EXAMPLES = examples(
    "harness reproduce night.zip",
    "harness reproduce night.zip --episodes 1 --out reports/again   # the first init state of each task",
    "harness reproduce night.zip --policy 'mine=lerobot:outputs/mine'   # the checkpoint lies elsewhere here",
)


def command(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Archive of `harness export`.")],
    out: Annotated[str | None, typer.Option(help="Ledger of the rerun.", show_default="reports/reproduce-NAME")] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Init states of each task, from the first.")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", "-p", metavar="LABEL=POLICY", help="What a policy of the archive is here."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Rollout workers.", show_default="one per CPU")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join.", show_default="a local cluster")] = None,
) -> None:
    """Run the episodes of an archive again and say "same" or "differs by …".

    Exit code 0 when every episode ended as recorded along the same trajectory, 1 when not. Latency is the machine's, so
    it is in the archive and not compared.
    """
    import harness
    from harness.archive.contents import record_of
    from harness.archive.file import open_archive
    from harness.archive.reproduce import compare_rerun
    from harness.evaluation import run
    from harness.ledger.reader import Ledger
    from harness.spec.changes import SuiteChanges

    screen = Screen()
    with open_archive(file) as archive:
        record = dict(archive.record)
    suite = relocated(read_suite(record["suite"], str(file)), policy or [])
    target = out or f"reports/reproduce-{file.stem}"
    result = run(
        SuiteChanges(video="none", probe="dropped", episodes=episodes).apply(suite),
        out=target,
        workers=workers,
        address=address,
        on_message=screen.say,
    )
    if result.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    again = record_of(Ledger(target), harness_version=harness.__version__, exported_at=datetime.now(UTC))
    found = compare_rerun(record, again, partial=episodes is not None)
    for sentence in found.around:
        screen.say(f"around it: {sentence}")
    screen.say(found.sentence)
    tell_json(ctx, found.record)
    if not found.same:
        raise typer.Exit(EXIT_FAILED)


def read_suite(text: str, where: str) -> Suite:
    """The suite of an archive.

    Raises:
        SpecError: It is none.
    """
    from harness.spec import Suite
    from harness.spec.resolve import parse
    from harness.spec.strict_yaml import read_yaml

    try:
        data = read_yaml(text)
    except Exception as error:
        raise UsageError(f"The suite of {where} cannot be read ({error}).") from error
    if not isinstance(data, dict):
        raise UsageError(f"The suite of {where} is a {type(data).__name__}, not a mapping.")
    return parse(Suite, data, where)


def relocated(suite: Suite, given: list[str]) -> Suite:
    """A suite with some of its policies taken from elsewhere; their labels stay.

    Raises:
        UsageError: A text of another form, a label that the suite does not have, or code of the archive's author that
            nobody here has asked for.
    """
    from harness.errors import unknown_name
    from harness.spec import parse_policy

    here: dict[str, PolicySpec] = {}
    labels = [spec.label for spec in suite.policies]
    for text in given:
        label = next((each for each in labels if text.startswith(f"{each}=")), None)
        if label is None:
            if "=" not in text:
                raise UsageError(f"--policy {text!r} has no label; write LABEL=POLICY, e.g. {labels[0]}={labels[0]}.")
            raise unknown_name("policy of the archive", text.partition("=")[0], labels)
        here[label] = parse_policy(text[len(label) + 1 :]).model_copy(update={"label": label})
    placed = tuple(here.get(spec.label, spec) for spec in suite.policies)
    foreign = [spec for spec in placed if spec.kind == "python" and spec.label not in here]
    if foreign:
        raise UsageError(
            f"The archive names the code {foreign[0].text!r}, which would run here. Read it, then say so: --policy "
            f"'{foreign[0].label}={foreign[0].text}'."
        )
    return suite.model_copy(update={"policies": placed})
