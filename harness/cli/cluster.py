"""`harness cluster`: what the nodes of a Ray cluster are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.examples import examples
from harness.cli.verb import Verb, tell_json
from harness.screen import Part, Screen

if TYPE_CHECKING:
    from harness.cluster.status import NodeStatus

app = typer.Typer(help="Look at the nodes of a Ray cluster.", no_args_is_help=True, rich_markup_mode="rich")
LATE_S = 1.0
"""From this offset on a node's clock is worth a word: rows are joined and ordered by time."""


@app.callback()
def _verbs() -> None:
    """Look at the nodes of a Ray cluster."""


@app.command(
    "status",
    cls=Verb,
    epilog=examples("harness cluster status", "harness cluster status --address HEAD:6379 --json"),
)
def status_command(
    ctx: typer.Context,
    address: Annotated[str, typer.Option(help="Ray cluster: auto, or HOST:PORT.")] = "auto",
) -> None:
    """List the nodes: hardware profile, cores, GPUs, renderer, instruction set, clock, and what they cannot do."""
    from harness.cluster.ray_session import open_session
    from harness.cluster.status import look_at_nodes

    with open_session(address) as session:
        nodes = look_at_nodes(session)
    screen = Screen()
    tell_json(ctx, lambda: {"nodes": [node.as_json() for node in nodes]})
    head = ("node", "hardware", "cores", "GPUs", "renders with", "instructions", "clock")
    screen.rows([head, *map(_row, nodes)])
    for node in nodes:
        for what in node.cannot:
            screen.say(f"{node.node_id} cannot {what}")
        if node.clock_s is not None and abs(node.clock_s) >= LATE_S:
            screen.say(
                f"{node.node_id}: its clock is {node.clock_s:+.1f} s off the driver's; let both follow one (NTP)"
            )
    versions = {node.node_id: node.versions for node in nodes if node.versions}
    for name in sorted({name for own in versions.values() for name in own}):
        found = {own.get(name, "none") for own in versions.values()}
        if len(found) > 1:
            told = ", ".join(f"{own.get(name, 'none')} on {node}" for node, own in versions.items())
            screen.say(f"{name} differs: {told}")


def _row(node: NodeStatus) -> tuple[Part, ...]:
    clock = "–" if node.clock_s is None else f"{node.clock_s * 1e3:+.0f} ± {(node.clock_within_s or 0) * 1e3:.0f} ms"
    return (
        (node.node_id, "bold"),
        node.hardware or "–",
        f"{node.cores:g}",
        f"{node.gpus:g}",
        node.gl or "–",
        node.isa or "–",
        clock,
    )
