"""What to buy, as a sentence, a table and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.planning.purchase import Need, Offer
from harness.report.format import NONE, number
from harness.report.tables.table import Table

NOTE = (
    "latency: a decision's, low – likely – high of the band that `harness predict` gives; measured on that device, its "
    "median and p99. memory: of the policy. no: what excludes it; may suit: what is not certain."
)


def purchase_sentence(offers: Sequence[Offer], need: Need, priced: bool) -> str:
    """The answer."""
    limit = f"a decision within {need.limit_ms:.3g} ms"
    certain = [offer for offer in offers if offer.verdict == "suits"]
    possible = [offer for offer in offers if offer.verdict == "may suit"]
    if certain:
        first = f"{'Cheapest' if priced else 'Fastest'} that suits: {_name(_first(certain, priced))} ({limit})."
    elif possible:
        first = f"Nothing suits for certain ({limit})."
    else:
        return f"Nothing suits: {limit}, {len(offers)} choices, each with what excludes it below."
    if not possible:
        return first
    best = _first(possible, priced)
    return f"{first} {'Cheapest' if priced else 'Fastest'} that may: {_name(best)}; {'; '.join(best.reasons)}."


def _first(offers: Sequence[Offer], priced: bool) -> Offer:
    # They stand by price; without prices, by latency.
    return offers[0] if priced else min(offers, key=lambda offer: offer.estimate.likely if offer.estimate else 0.0)


def _name(offer: Offer) -> str:
    steps = "" if offer.variant.nfe is None else f" @ NFE {offer.variant.nfe}"
    source = "measured" if offer.estimate and offer.estimate.measured else "predicted"
    price = "" if offer.price is None else f", {offer.price:g}"
    return f"{offer.profile.name} with {offer.variant.label}{steps} ({source}{price})"


def offers_table(offers: Sequence[Offer]) -> Table:
    """One row a device, variant and NFE."""
    columns = ("device", "policy", "NFE", "price", "memory, GB", "latency, ms", "source", "verdict", "why")
    return Table("What suits", columns, tuple(_row(offer) for offer in offers), 2, NOTE)


def _row(offer: Offer) -> tuple[str, ...]:
    found = offer.estimate
    latency = NONE
    if found is not None:
        parts = (found.likely, found.high) if found.measured else (found.low, found.likely, found.high)
        latency = " – ".join(number(part) for part in parts)
    return (
        offer.profile.name,
        offer.variant.label,
        NONE if offer.variant.nfe is None else str(offer.variant.nfe),
        NONE if offer.price is None else f"{offer.price:g}",
        NONE if found is None or found.memory_bytes is None else f"{found.memory_bytes / 1e9:.1f}",
        latency,
        NONE if found is None else "measured" if found.measured else "predicted",
        offer.verdict,
        "; ".join(offer.reasons) or NONE,
    )


def offers_json(offers: Sequence[Offer], need: Need) -> dict[str, Any]:
    """For machines."""
    return {
        "limit_ms": need.limit_ms,
        "offers": [
            {
                "device": offer.profile.name,
                "policy": offer.variant.label,
                "nfe": offer.variant.nfe,
                "price": offer.price,
                "memory_bytes": offer.estimate.memory_bytes if offer.estimate else None,
                "low_ms": offer.estimate.low if offer.estimate else None,
                "likely_ms": offer.estimate.likely if offer.estimate else None,
                "high_ms": offer.estimate.high if offer.estimate else None,
                "measured": offer.estimate.measured if offer.estimate else None,
                "verdict": offer.verdict,
                "reasons": list(offer.reasons),
            }
            for offer in offers
        ],
    }
