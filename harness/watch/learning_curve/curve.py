"""The learning curve: success and latency against the training step, the best checkpoint, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.intervals import Interval, quantile_interval, rate_interval
from harness.analysis.paired.matrix import compact_letters
from harness.analysis.paired.pairing import ERROR, SUCCESS, Side, read_sides
from harness.analysis.paired.statistics import holm, mcnemar_exact
from harness.errors import LedgerError
from harness.ledger.parts import read_table
from harness.ledger.storage import Location
from harness.spec.timing import SYNCHRONOUS
from harness.watch.backlog.journal import CheckpointStatus, JournalEntry

MAX_LETTERS = 20
"""Letters tell at most so many checkpoints apart; beyond that they hide more than they show."""


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint on the curve."""

    name: str
    step: int
    lineage: int
    status: str
    """evaluated, waiting (perhaps in part done), failed, skipped, changed or vanished."""
    reason: str = ""
    successes: int = 0
    n: int = 0
    """Scored episodes."""
    errors: int = 0
    """Infrastructure errors, which count in no rate."""
    low: float | None = None
    """Clopper-Pearson interval of this checkpoint alone, 95 %."""
    high: float | None = None
    decision_ms: float | None = None
    """Median time to decide in closed loop, ms."""
    decision_low_ms: float | None = None
    decision_high_ms: float | None = None
    e2e_ms: float | None = None
    """Median end-to-end latency of the probe, ms, if the suite has one."""
    verdict: str = ""
    letters: str = ""
    """Checkpoints that share a letter cannot be told apart."""
    gpu_hours: float | None = None
    """What training had taken up to it, as it told; None where it did not."""
    price: float | None = None
    flags: str = ""
    """What of training jumped before it, e.g. an optimizer's state that was not restored."""

    @property
    def rate(self) -> float | None:
        """Success rate; None without scored episodes."""
        return self.successes / self.n if self.n else None


@dataclass(frozen=True, slots=True)
class Best:
    """The best checkpoint."""

    point: Point
    interval: Interval
    """Holds for the best of so many: the level of a single interval is raised by Bonferroni's correction."""
    alike: tuple[str, ...]
    """Checkpoints that cannot be told from it: exact McNemar on shared episodes, Holm over all pairs."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Everything that a training run's evaluations say."""

    points: tuple[Point, ...]
    """In the order of training."""
    best: Best | None
    """None before the first complete evaluation."""
    confidence: float = 0.95
    cheapest: Point | None = None
    """The checkpoint that took the least training (by price, else by GPU-hours) of the best one and those that cannot
    be told from it; None where their cost is not known of all."""

    def as_json(self) -> dict[str, Any]:
        """What clients read: complete results and the best one."""
        results = [_as_json(point) for point in self.points if point.status == CheckpointStatus.EVALUATED]
        best = None
        if self.best is not None:
            low, high = self.best.interval
            best = {**_as_json(self.best.point), "low": low, "high": high, "alike": list(self.best.alike)}
        found = {"results": results, "best": best}
        return found if self.cheapest is None else {**found, "cheapest": _as_json(self.cheapest)}


def read_curve(
    ledger: str, entries: Sequence[JournalEntry], *, nfe: int | None = None, confidence: float = 0.95
) -> Curve:
    """Compute the curve from a ledger.

    Args:
        ledger: Directory or URI.
        entries: The checkpoints that are known.
        nfe: NFE of the evaluations; None for the only one.
        confidence: Level of intervals and of the family of comparisons.

    Raises:
        LedgerError: A damaged part.
    """
    sides = _sides(ledger, [entry.name for entry in entries if entry.status is not CheckpointStatus.CHANGED], nfe)
    latency = _latency(ledger, list(sides))
    ordered = sorted(entries, key=lambda entry: entry.position)
    points = [_point(entry, sides.get(entry.name), latency.get(entry.name, {}), confidence) for entry in ordered]
    complete = [point for point in points if point.status == CheckpointStatus.EVALUATED and point.n]
    if not complete:
        return Curve(tuple(points), None, confidence)
    ranked = sorted(complete, key=lambda point: (-(point.rate or 0.0), point.lineage, point.step))
    different = tell_apart([sides[point.name] for point in ranked], 1 - confidence)
    letters = compact_letters(len(ranked), different) if len(ranked) <= MAX_LETTERS else [""] * len(ranked)
    lettered = {point.name: text for point, text in zip(ranked, letters, strict=True)}
    first = replace(ranked[0], letters=lettered[ranked[0].name])
    alike = tuple(point.name for place, point in enumerate(ranked) if place and (0, place) not in different)
    interval = rate_interval(first.successes, first.n, 1 - (1 - confidence) / len(ranked))
    equals = [first, *(point for point in ranked if point.name in alike)]
    return Curve(
        tuple(replace(point, letters=lettered.get(point.name, "")) for point in points),
        Best(first, interval, alike),
        confidence,
        cheapest_of(equals),
    )


def cheapest_of(points: Sequence[Point]) -> Point | None:
    """The point that took the least training: by price where every one tells it, else by GPU-hours; None by neither."""
    for cost in ("price", "gpu_hours"):
        if points and all(getattr(point, cost) is not None for point in points):
            return min(points, key=lambda point: (getattr(point, cost), point.step))
    return None


def tell_apart(sides: Sequence[Side], alpha: float) -> set[tuple[int, int]]:
    """Pairs (i, j), i < j, whose success differs: exact McNemar on shared episodes, Holm over all pairs."""
    if len(sides) < 2:
        return set()
    keys = sorted({key for side in sides for key in side.keys.to_pylist()})
    column = {key: place for place, key in enumerate(keys)}
    won = np.zeros((len(sides), len(keys)), dtype=np.int64)
    scored = np.zeros_like(won)
    for row, side in enumerate(sides):
        places = np.array([column[key] for key in side.keys.to_pylist()], dtype=np.int64)
        won[row, places] = side.outcomes == SUCCESS
        scored[row, places] = side.outcomes != ERROR
    lost = won @ ((1 - won) * scored).T
    pairs = list(combinations(range(len(sides)), 2))
    first, second = (np.array(part) for part in zip(*pairs, strict=True))
    p: NDArray[np.float64] = holm(mcnemar_exact(lost[first, second], lost[second, first]))
    return {pair for pair, value in zip(pairs, p, strict=True) if value <= alpha}


def _sides(ledger: str, names: Sequence[str], nfe: int | None) -> dict[str, Side]:
    location = Location.of(ledger)
    if not location.exists() or not location.parts("episodes"):
        return {}
    try:
        found = read_sides(ledger, nfe=nfe)
    except LedgerError:
        # A checkpoint that was overwritten while it ran has rows of two contents: the others are still good.
        found = _one_by_one(ledger, names, nfe)
    return {str(side.policy_id): side for side in found if side.policy_id in set(names) and side.clock == SYNCHRONOUS}


def _one_by_one(ledger: str, names: Sequence[str], nfe: int | None) -> list[Side]:
    present = set(read_table(Location.of(ledger), "episodes", ["policy_id"])["policy_id"].to_pylist())
    return [side for name in names if name in present for side in read_sides(ledger, policy=name, nfe=nfe)]


def _latency(ledger: str, names: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Per checkpoint: median time to decide with its interval, and the probe's median."""
    if not names:
        return {}
    location = Location.of(ledger)
    decisions = read_table(location, "decisions", ["policy_id", "queue_ms", "infer_ms"]).to_pandas()
    decisions["total_ms"] = decisions["queue_ms"].fillna(0.0) + decisions["infer_ms"]
    found: dict[str, dict[str, float | None]] = {name: {} for name in names}
    for name, group in decisions.dropna(subset=["total_ms"]).groupby("policy_id"):
        if name in found:
            interval = quantile_interval(group["total_ms"], 0.5)
            median = float(group["total_ms"].median())
            low, high = interval if np.isfinite(interval).all() else (None, None)
            found[str(name)] = {"decision_ms": median, "decision_low_ms": low, "decision_high_ms": high}
    probed = read_table(location, "latency", ["policy_id", "component", "latency_ms"]).to_pandas()
    for name, group in probed[probed["component"] == "e2e"].groupby("policy_id"):
        if name in found:
            found[str(name)]["e2e_ms"] = float(group["latency_ms"].median())
    return found


def _point(entry: JournalEntry, side: Side | None, latency: Mapping[str, Any], confidence: float) -> Point:
    point = Point(
        entry.name,
        entry.step,
        entry.lineage,
        entry.status.value,
        entry.reason,
        verdict=entry.verdict,
        gpu_hours=entry.gpu_hours,
        price=entry.price,
        flags="; ".join(entry.flags),
        **latency,
    )
    if side is None:
        return point
    successes, errors = int((side.outcomes == SUCCESS).sum()), int((side.outcomes == ERROR).sum())
    n = side.n - errors
    low, high = rate_interval(successes, n, confidence) if n else (None, None)
    return replace(point, successes=successes, n=n, errors=errors, low=low, high=high)


def _as_json(point: Point) -> dict[str, Any]:
    return {**asdict(point), "rate": point.rate}
