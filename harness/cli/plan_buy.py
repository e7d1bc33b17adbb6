"""`harness plan buy`: the cheapest device that fits a policy, is fast enough for it, and keeps its success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.examples import examples
from harness.cli.values import parse_margin, parse_nfe, require_ledgers
from harness.cli.verb import tell_json
from harness.errors import EXIT_FAILED, UsageError
from harness.screen import Screen
from harness.spec.timing import milliseconds

if TYPE_CHECKING:
    from harness.planning.purchase import Offer, Variant

EXAMPLES = examples(
    "harness plan buy -p arch:student-650m-int8 --nfe 1 --hz 10 --among jetson-orin-nano-8gb,jetson-agx-orin-64gb",
    "harness plan buy --from reports/examples/h100-latency/pi05 --nfe 1,10 --hz 4 --prices prices.yaml",
    "harness plan buy --from reports/probe --success reports/night --base flow --margin 3pp --stands 150ms",
)


def command(
    ctx: typer.Context,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", "-p", help="A timed policy, or arch:NAME; repeatable.", show_default="all timed ones"),
    ] = None,
    ledgers: Annotated[list[str] | None, typer.Option("--from", help="Ledger of a probe; repeatable.")] = None,
    nfe: Annotated[str | None, typer.Option(help="NFE values.", show_default="all timed or described")] = None,
    hz: Annotated[float | None, typer.Option(min=1e-3, help="Decisions a second that it has to make.")] = None,
    stands: Annotated[
        str | None, typer.Option(help="Largest delay that success stands, as `harness delay` says: 150ms.")
    ] = None,
    success: Annotated[
        list[str] | None, typer.Option(help="Ledger of the variants' runs on the base's episodes; repeatable.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Policy whose success a variant has to keep.")] = None,
    base_nfe: Annotated[int | None, typer.Option(min=1, help="Its NFE.", show_default="the only one")] = None,
    margin: Annotated[str, typer.Option(help="Drop of success that is accepted.")] = "3pp",
    among: Annotated[
        str | None, typer.Option(help="Hardware profiles.", show_default="those with a price, else all but cpu")
    ] = None,
    prices: Annotated[str | None, typer.Option(help="YAML file: hardware profile: price.")] = None,
    power: Annotated[float | None, typer.Option(min=1e-3, help="Power that can be given, W.")] = None,
) -> None:
    """Every device with every variant of a policy, and what speaks against each: memory, latency, success, power.

    What was measured on a device counts as such; all else is predicted, with its band. Exit code 1 where nothing suits
    and nothing may.
    """
    from harness.planning.purchase import Need, load_prices, weigh
    from harness.report.tables.purchase import offers_json, offers_table, purchase_sentence
    from harness.report.terminal import print_table
    from harness.spec.profile import profile_names

    if hz is None and stands is None:
        raise UsageError("How fast must it be? --hz 10 for ten decisions a second, or --stands 150ms, or both.")
    need = Need(hz, milliseconds(stands) if stands else None, power)
    priced = load_prices(prices) if prices else {}
    names = [name.strip() for name in among.split(",")] if among else list(priced)
    variants = _variants(policy or [], ledgers or [], nfe, success or [], base, base_nfe, parse_margin(margin))
    offers = weigh(variants, names or [name for name in profile_names() if name != "cpu"], priced, need)
    tell_json(ctx, lambda: offers_json(offers, need))
    screen = Screen()
    screen.say(purchase_sentence(offers, need, bool(priced)))
    print_table(offers_table(offers), screen)
    if not _possible(offers):
        raise typer.Exit(EXIT_FAILED)


def _possible(offers: list[Offer]) -> bool:
    return any(offer.verdict != "no" for offer in offers)


def _variants(
    policies: list[str],
    ledgers: list[str],
    nfe: str | None,
    success: list[str],
    base: str | None,
    base_nfe: int | None,
    margin: float,
) -> list[Variant]:
    from harness.planning.purchase import described, paired_success, timed

    steps: tuple[Any, ...] = parse_nfe(nfe) if nfe else ()
    plans = [name for name in policies if name.startswith("arch:")]
    labels = [name for name in policies if not name.startswith("arch:")]
    if not policies and not ledgers:
        raise UsageError("What is to run there? A probe's ledger with --from, or a description: --policy arch:NAME.")
    if labels and not ledgers:
        raise UsageError(f"Where was {labels[0]} timed? Name the ledger of its probe with --from.")
    if bool(success) != (base is not None):
        raise UsageError("--success and --base go together: the runs, and the policy whose success is to be kept.")
    require_ledgers(*ledgers, *success)
    found = [variant for name in plans for variant in described(name, steps)]
    if ledgers and (labels or not plans):
        from harness.ledger import read

        kept = paired_success(success, base or "", base_nfe, margin)
        found += timed(read(*ledgers), labels, steps, kept)
    return found
