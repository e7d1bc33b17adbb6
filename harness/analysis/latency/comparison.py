"""Latency, energy and memory of two ledgers, configuration by configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.analysis.intervals import Floats
from harness.analysis.latency.ratios import QuantileRatio, quantile_ratio, slower_probability
from harness.ledger import Ledger, open_ledger

_COLUMNS = [
    *("run_id", "node_id", "hardware", "policy_id", "nfe", "dtype", "compile", "batch_size", "component", "sample"),
    *("latency_ms", "power_w", "throttled", "memory_bytes"),
]
_PLACE = ["hardware", "policy_id", "nfe", "batch_size", "component"]
_BUILD = ["dtype", "compile"]

Wanted = tuple[str | None, int | None]
"""(policy_id, nfe); None takes any."""


@dataclass(frozen=True)
class Samples:
    """Raw samples of one component in one configuration."""

    hardware: str | None
    policy_id: str | None
    nfe: int | None
    dtype: str | None
    compile: str | None
    batch_size: int | None
    component: str
    latency_ms: Floats
    """In the order in which they were taken, shape (n,)."""
    throttled: int
    """Samples known to be throttled."""
    energy_j: float | None
    """Mean power times mean latency: energy of one pass, joules; None where power was not read."""
    memory_bytes: int | None
    """Peak memory; None where it was not read."""

    @property
    def build(self) -> str:
        """How it was built, e.g. "bfloat16, compile default"."""
        parts = [self.dtype, f"compile {self.compile}" if self.compile else None]
        return ", ".join(part for part in parts if part) or "–"


@dataclass(frozen=True)
class LatencyComparison:
    """One component of a base and a candidate."""

    base: Samples
    candidate: Samples
    median: QuantileRatio
    p99: QuantileRatio
    slower: float
    """Probability that a random sample of the candidate exceeds a random one of the base."""
    p: float
    """Mann-Whitney check, two-sided, on samples thinned to their effective number."""

    @property
    def energy_ratio(self) -> float | None:
        """Energy of the candidate over that of the base."""
        return _ratio(self.base.energy_j, self.candidate.energy_j)

    @property
    def memory_ratio(self) -> float | None:
        """Peak memory of the candidate over that of the base."""
        return _ratio(self.base.memory_bytes, self.candidate.memory_bytes)


def read_samples(source: str | Path | Ledger, wanted: Wanted = (None, None)) -> list[Samples]:
    """Read the latency samples of a ledger, one entry per configuration and component.

    Args:
        source: Ledger, by path or open.
        wanted: Only this policy_id and NFE.
    """
    frame = open_ledger(source).rows("latency", _COLUMNS).to_pandas()
    policy, nfe = wanted
    if policy is not None:
        frame = frame[frame["policy_id"] == policy]
    if nfe is not None:
        frame = frame[frame["nfe"] == nfe]
    ordered = frame.sort_values(["run_id", "node_id", "sample"], kind="stable")
    groups = ordered.groupby([*_PLACE, *_BUILD], dropna=False, sort=True)
    return [_samples(dict(zip([*_PLACE, *_BUILD], key, strict=True)), group) for key, group in groups]


def compare_latency(
    base: str | Path | Ledger,
    candidate: str | Path | Ledger,
    rng: np.random.Generator,
    *,
    base_variant: Wanted = (None, None),
    candidate_variant: Wanted = (None, None),
    confidence: float = 0.95,
) -> list[LatencyComparison]:
    """Compare every component that both ledgers measured.

    Configurations belong together when hardware, policy, NFE, batch size and component agree; what differs in only one
    value on each side (another policy's name, another device, the chosen NFE) is matched all the same. Data type and
    compile mode are what changes are made of: they have to agree only where a side has several.

    Args:
        base: Ledger.
        candidate: Ledger.
        rng: Source of the bootstrap's draws.
        base_variant: Only this (policy_id, NFE) of the base.
        candidate_variant: Only this (policy_id, NFE) of the candidate.
        confidence: Level of the intervals, two-sided.
    """
    old, new = read_samples(base, base_variant), read_samples(candidate, candidate_variant)
    return [_compare(first, second, rng, confidence) for first, second in _match(old, new)]


def _compare(base: Samples, candidate: Samples, rng: np.random.Generator, confidence: float) -> LatencyComparison:
    slower, p = slower_probability(base.latency_ms, candidate.latency_ms)
    return LatencyComparison(
        base=base,
        candidate=candidate,
        median=quantile_ratio(base.latency_ms, candidate.latency_ms, 0.5, rng, confidence),
        p99=quantile_ratio(base.latency_ms, candidate.latency_ms, 0.99, rng, confidence),
        slower=slower,
        p=p,
    )


def _match(base: list[Samples], candidate: list[Samples]) -> Iterator[tuple[Samples, Samples]]:
    # A field that is constant on either side and differs between them is what is being compared, not a condition.
    free = {
        name
        for name in ("hardware", "policy_id", "nfe")
        if len({getattr(item, name) for item in base}) == len({getattr(item, name) for item in candidate}) == 1
    }
    by_place: dict[tuple[object, ...], list[Samples]] = {}
    for item in base:
        by_place.setdefault(_place(item, free), []).append(item)
    counts: dict[tuple[object, ...], int] = {}
    for item in candidate:
        counts[_place(item, free)] = counts.get(_place(item, free), 0) + 1
    for item in candidate:
        place = _place(item, free)
        partners = by_place.get(place, [])
        if len(partners) == 1 and counts[place] == 1:
            yield partners[0], item
        else:
            yield from ((partner, item) for partner in partners if partner.build == item.build)


def _place(item: Samples, free: set[str]) -> tuple[object, ...]:
    return tuple(None if name in free else getattr(item, name) for name in _PLACE)


def _samples(key: dict[str, object], group: pd.DataFrame) -> Samples:
    def text(name: str) -> str | None:
        value = key[name]
        return value if isinstance(value, str) else None

    def number(name: str) -> int | None:
        value = key[name]
        return None if pd.isna(value) else int(value)  # type: ignore[call-overload]

    latency = group["latency_ms"].to_numpy(dtype=float)
    power, memory = group["power_w"].mean(), group["memory_bytes"].max()
    return Samples(
        hardware=text("hardware"),
        policy_id=text("policy_id"),
        nfe=number("nfe"),
        dtype=text("dtype"),
        compile=text("compile"),
        batch_size=number("batch_size"),
        component=str(key["component"]),
        latency_ms=latency,
        throttled=int(group["throttled"].dropna().astype(bool).sum()),
        energy_j=None if pd.isna(power) else float(power) * float(latency.mean()) / 1000,
        memory_bytes=None if pd.isna(memory) else int(memory),
    )


def _ratio(base: float | None, candidate: float | None) -> float | None:
    return candidate / base if base and candidate is not None else None
