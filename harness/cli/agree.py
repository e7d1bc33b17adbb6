"""`harness agree`: how far a student acts from its teacher, before any rollout of the student."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.examples import examples
from harness.cli.output import write_texts
from harness.cli.values import parse_policies
from harness.cli.verb import json_target
from harness.screen import Screen

EXAMPLES = examples(
    "harness agree flow flow:student --nfe 10 --student-nfe 1 --tasks 2",
    "harness agree flow flow --nfe 10 --student-nfe 1  # naive one step against ten",
    "harness agree lerobot:me/pi05 lerobot:me/student --suite libero_10 --json agree.json",
)


def command(
    ctx: typer.Context,
    teacher: Annotated[str, typer.Argument(help="Policy whose actions are executed.")],
    student: Annotated[str, typer.Argument(help="Policy that is asked the same, and not obeyed.")],
    suite: Annotated[str, typer.Option(help="LIBERO suite.")] = "libero_spatial",
    tasks: Annotated[int, typer.Option(min=1, help="Tasks of the suite, from the first.")] = 10,
    init_states: Annotated[int, typer.Option(min=1, help="Init states of each task.")] = 1,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the teacher; its default without.")] = None,
    student_nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the student; its default without.")] = None,
    world: Annotated[str, typer.Option(help="World that the suite is of.", hidden=True)] = "libero",
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
) -> None:
    """Set the actions of two policies side by side: the same observations, met by the teacher, and the same noise.

    Distances by dimension and by step of the chunk. They say how far apart two policies act, and not what that costs:
    compare their success (`harness compare`) before one replaces the other.
    """
    parse_policies([teacher]), parse_policies([student])
    from harness.agreement import collect
    from harness.policies.registry import make_policy
    from harness.report.json import json_text
    from harness.report.markdown import table_markdown
    from harness.report.tables.agreement import agreement_json, agreement_tables
    from harness.report.terminal import print_table
    from harness.spec.policy import parse_policy
    from harness.spec.protocol import Protocol
    from harness.worlds.registry import get_world

    described = get_world(world).describe(suite)
    protocol = Protocol.model_validate({"preset": "stub" if world == "stub" else "lerobot"})
    Screen(stderr=True).say(f"{teacher} plays {min(tasks, len(described.tasks)) * init_states} episodes of {suite}")
    found = collect(
        make_policy(parse_policy(teacher)),
        make_policy(parse_policy(student)),
        suite=suite,
        tasks=range(min(tasks, len(described.tasks))),
        init_states=init_states,
        protocol=protocol,
        nfe=(nfe, student_nfe),
        world=world,
    )
    tables = agreement_tables(found, teacher, student)
    write_texts(
        [
            (markdown, lambda: "\n\n".join(map(table_markdown, tables)) + "\n"),
            (json_target(ctx), lambda: json_text(agreement_json(found, teacher, student))),
        ]
    )
    if markdown != "-":
        for table in tables:
            print_table(table, Screen())
