"""Which nodes to take for a deadline: every mix of a catalogue, its time against its cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

from harness.errors import UsageError
from harness.planning.evidence import RunEvidence
from harness.planning.forecast import Forecast, forecast
from harness.planning.nodes_file import NodeKind, NodesFile
from harness.planning.simulate import Setting
from harness.planning.suite_plan import cost_of
from harness.schedule.units import EpisodeUnit

MOST_MIXES = 64
"""Mixes that are simulated; of a larger catalogue, counts in steps of powers of two."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Some nodes of a catalogue and what a run takes on them."""

    nodes: NodesFile
    forecast: Forecast
    cost: float
    """Of the median time, in the prices' currency."""
    probability: float
    """Of ending before the deadline."""

    @property
    def name(self) -> str:
        """The nodes in words."""
        return " + ".join(f"{kind.count} × {kind.profile}" for kind in self.nodes.nodes)


def parse_deadline(text: str, now: datetime) -> float:
    """Seconds until a deadline: "07:00" (the next time the clock says so), "2026-12-01T07:00", "90min" or "8h".

    Raises:
        UsageError: Another form, or it is past.
    """
    span = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(min|h)", text.strip())
    if span:
        return float(span[1]) * (60 if span[2] == "min" else 3600)
    clock = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip())
    try:
        if clock:
            when = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
            when += timedelta(days=int(when <= now))
        else:
            when = datetime.fromisoformat(text.strip())
            when = when if when.tzinfo is not None else when.replace(tzinfo=now.tzinfo)
    except ValueError:
        raise UsageError(f"--deadline is {text!r}; write 07:00, 2026-12-01T07:00, 90min or 8h.") from None
    if when <= now:
        raise UsageError(f"--deadline {text} is past: it is {now:%Y-%m-%dT%H:%M} now. Give a later one.")
    return (when - now).total_seconds()


def mixes(catalogue: NodesFile, most: int = MOST_MIXES) -> Iterator[NodesFile]:
    """Every mix of up to `count` nodes of each kind; a catalogue with more than `most` is thinned to powers of two."""
    choices = [list(range(kind.count + 1)) for kind in catalogue.nodes]
    while _number(choices) > most and any(len(choice) > 2 for choice in choices):
        widest = max(choices, key=len)
        kept = sorted({0, widest[-1], *(n for n in widest if n & (n - 1) == 0)})
        choices[choices.index(widest)] = kept if len(kept) < len(widest) else [*widest[:2], *widest[3:]]
    for counts in product(*choices):
        kinds = [_of(kind, n) for kind, n in zip(catalogue.nodes, counts, strict=True) if n]
        if kinds:
            yield NodesFile(nodes=tuple(kinds))


def _number(choices: Sequence[Sequence[int]]) -> int:
    n = 1
    for choice in choices:
        n *= len(choice)
    return n


def _of(kind: NodeKind, count: int) -> NodeKind:
    return kind.model_copy(update={"count": count})


def weigh_mixes(
    units: Sequence[EpisodeUnit],
    runs: Sequence[RunEvidence],
    catalogue: NodesFile,
    deadline_s: float,
    *,
    light: Callable[[str], bool] | None,
    max_steps: Mapping[str, int] | None,
    seconds: Callable[[], float],
    budget_s: float = 0.5,
) -> list[Mix]:
    """Forecast a run on every mix of a catalogue, the cheapest first.

    Args:
        units: The plan.
        runs: What durations are drawn from.
        catalogue: What can be had: each kind up to its `count`.
        deadline_s: Seconds until the run is to have ended.
        light: Policy label → whether workers decide for themselves.
        max_steps: LIBERO suite → length of a timeout.
        seconds: Stopwatch.
        budget_s: Time for each mix.

    Raises:
        UsageError: A price is missing (the profiles are named), or the policy can be planned on no mix.
    """
    _, unpriced = cost_of(catalogue, 0.0)
    if unpriced:
        told = ", ".join(unpriced)
        raise UsageError(f"The catalogue has no price_per_hour for {told}: no mix can be called cheapest.")
    found, refused = list[Mix](), list[UsageError]()
    for nodes in mixes(catalogue):
        setting = Setting(nodes.resources(), None, {node.node_id: kind.start_s for node, kind in nodes.members()})
        try:
            made = forecast(units, runs, setting, light=light, max_steps=max_steps, seconds=seconds, budget_s=budget_s)
        except UsageError as error:
            refused.append(error)
            continue
        cost, _ = cost_of(nodes, made.finish_s)
        found.append(Mix(nodes, made, cost or 0.0, made.probability_by(deadline_s)))
    if not found:
        raise refused[0]
    return sorted(found, key=lambda mix: (mix.cost, mix.forecast.finish_s))


def pareto(found: Sequence[Mix]) -> list[Mix]:
    """Mixes that no other beats in both time and cost, the cheapest first."""
    front: list[Mix] = []
    for mix in sorted(found, key=lambda mix: (mix.cost, mix.forecast.finish_s)):
        if not front or mix.forecast.finish_s < front[-1].forecast.finish_s:
            front.append(mix)
    return front


def cheapest(found: Sequence[Mix], probability: float) -> Mix | None:
    """The cheapest mix that makes the deadline with the wanted probability; None when none does."""
    return next((mix for mix in sorted(found, key=lambda mix: mix.cost) if mix.probability >= probability), None)
