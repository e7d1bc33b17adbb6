"""`harness serve`: a policy for clients elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, get_args

import typer

from harness.cli.examples import examples
from harness.cli.values import parse_policies
from harness.cli.verb import tell_json
from harness.errors import UsageError, unknown_name
from harness.screen import Screen
from harness.spec.timing import milliseconds

if TYPE_CHECKING:
    from harness.serve.dialogue import ServedProtocol

EXAMPLES = examples(
    "harness serve --policy flow",
    "harness serve --policy lerobot:lerobot/pi05-libero --port 8001",
    "VLA_HARNESS_TOKEN=… harness serve --policy flow --host 0.0.0.0",
    "harness run libero_spatial --policy openpi://localhost:8000   # the other end",
    "harness serve --policy flow --protocol vla-eval   # for the benchmarks of vla-evaluation-harness",
    "harness serve --policy flow --pad-to 125ms   # as slow as another device; for --clock wall",
)


def command(
    ctx: typer.Context,
    policy: Annotated[str, typer.Option("--policy", "-p", help="Policy to serve.")],
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="VLA_HARNESS_TOKEN", help="What clients have to send; a variable hides it better."),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(min=1, help="Largest batch.", show_default="from measured batches")
    ] = None,
    max_wait_ms: Annotated[
        float | None,
        typer.Option(min=0, help="How long a request waits for others.", show_default="from measured batches"),
    ] = None,
    pad_to: Annotated[
        str | None,
        typer.Option(help="Answer no sooner than this after a question came, e.g. 125ms.", show_default="at once"),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="What clients speak: openpi, or vla-eval for the benchmarks of vla-evaluation-harness.")
    ] = "openpi",
    hardware: Annotated[
        str | None, typer.Option(help="Hardware profile of this node.", show_default="matched automatically")
    ] = None,
) -> None:
    """Serve a policy over openpi's websocket protocol, to `openpi://HOST:PORT` or to openpi's own client.

    With `--protocol vla-eval`, to the benchmarks of vla-evaluation-harness: `vla-eval run --server-url ws://HOST:PORT`.

    Needs neither Ray nor LIBERO. Decisions of concurrent clients are batched. Ctrl-C ends it.
    """
    from harness.policies.registry import POLICIES, make_policy
    from harness.serve.exposure import require_token

    if token is not None and not token.strip():
        raise UsageError("The token is empty; give one, or unset VLA_HARNESS_TOKEN.")
    pad_to_s = milliseconds(pad_to) / 1e3 if pad_to is not None else 0.0
    require_token(host, token)
    spoken = _protocol(protocol)
    (spec,) = parse_policies([policy])
    # Before anything heavy is loaded, and after what needs no network: a hub may be asked.
    POLICIES.check(spec)

    from harness.latency.node import hardware_of_node
    from harness.serve.service import PolicyService
    from harness.serve.sizing import asked_for, prepare_serving
    from harness.serve.websocket import run_server
    from harness.time_source import WallTime

    screen, clock = Screen(), WallTime()
    named = hardware_of_node(hardware)
    screen.say(f"Loading {spec.label}")
    served = make_policy(spec)
    asked_batch, asked_wait_s = asked_for(spec.options)
    plan = prepare_serving(
        served,
        clock=clock,
        max_batch=max_batch or asked_batch,
        max_wait_s=asked_wait_s if max_wait_ms is None else max_wait_ms / 1e3,
    )
    if plan.told:
        screen.say(f"{spec.label}: {plan.told}")
    service = PolicyService(served, plan, clock=clock, hardware=named, pad_to_s=pad_to_s)

    def ready(address: object) -> None:
        screen.say(
            f"Batches of up to {plan.max_batch}, waiting up to {plan.max_wait_s * 1e3:.3g} ms ({plan.why}).\n"
            + (f"Each answer takes at least {pad_to_s * 1e3:g} ms.\n" if pad_to_s else "")
            + f"Serving {spec.label} at {address}. Ctrl-C ends it."
        )

    run_server(service, host, port, token=token, on_ready=ready, protocol=spoken)
    tell_json(ctx, lambda: {"policy": spec.label, "decisions": service.decisions, "clients": service.clients})
    screen.say(f"Ended: {service.decisions} decisions for {service.clients} clients.")


def _protocol(name: str) -> ServedProtocol:
    """What clients speak, by its name.

    Raises:
        UsageError: Nothing that is served.
    """
    from harness.serve.dialogue import ServedProtocol

    for known in get_args(ServedProtocol):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise unknown_name("protocol", name, get_args(ServedProtocol))
