"""Latency, energy and memory of two ledgers, configuration by configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from harness.analysis.intervals import Floats
from harness.analysis.latency.energy import EnergySource, energies_of
from harness.analysis.latency.launches import LAUNCH, Launches, by_launch, compare_quantile
from harness.analysis.latency.machine import Machine, with_machines
from harness.analysis.latency.ratios import QuantileRatio, slower_probability
from harness.ledger import Ledger, open_ledger

_COLUMNS = [
    *("run_id", "node_id", "hardware", "policy_id", "nfe", "dtype", "compile", "batch_size", "component", "sample"),
    *("latency_ms", "power_w", "energy_j", "telemetry_source", "throttled", "memory_bytes", "launch"),
]
_PLACE = ["policy_id", "nfe", "batch_size", "component"]
_MACHINE = ["hardware", "model"]
_BUILD = ["dtype", "compile"]

Wanted = tuple[str | None, int | None]
"""(policy_id, nfe); None takes any."""


@dataclass(frozen=True)
class Samples:
    """Raw samples of one component in one configuration."""

    machine: Machine
    policy_id: str | None
    nfe: int | None
    dtype: str | None
    compile: str | None
    batch_size: int | None
    component: str
    launches: Launches
    """Latency in ms of each launch, in the order in which it was taken; at least one launch."""
    throttled: int
    """Samples known to be throttled."""
    energy_j: float | None
    """Energy of one pass, joules, as `energy_of` tells it; None where neither energy nor power was read."""
    memory_bytes: int | None
    """Peak memory; None where it was not read."""
    energy_source: EnergySource | None = None
    """Where the energy comes from; None without any."""
    energies_j: tuple[float, ...] = ()
    """Mean energy of each launch that has one."""
    runs: frozenset[str] = frozenset()
    """Ids of the runs that took them."""

    @property
    def hardware(self) -> str | None:
        """Hardware profile of the machine."""
        return self.machine.hardware

    @property
    def latency_ms(self) -> Floats:
        """Samples of all launches, launch by launch, shape (n,)."""
        return np.concatenate(self.launches)

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
    slower: float | None
    """Probability that a random sample of the candidate exceeds a random one of the base; None from too few."""
    energy: Literal["same", "any"] = "same"
    """Whether energies of two sources are compared."""

    @property
    def energy_refused(self) -> str | None:
        """Why there is no ratio of energies though both sides have one; None where there is, or one side has none."""
        return None if self.energy == "any" else refused_energies(self.base, self.candidate)

    @property
    def energy_ratio(self) -> float | None:
        """Energy of the candidate over that of the base; None where they come from two sources and nobody asked."""
        return None if self.energy_refused else _ratio(self.base.energy_j, self.candidate.energy_j)

    @property
    def memory_ratio(self) -> float | None:
        """Peak memory of the candidate over that of the base."""
        return _ratio(self.base.memory_bytes, self.candidate.memory_bytes)


def telling_names(items: Sequence[Samples]) -> list[tuple[str, ...]]:
    """What tells configurations of one machine, NFE and batch size apart: policy and build, where there are several."""
    policies = {item.policy_id for item in items}
    builds = {(item.policy_id, item.build) for item in items}
    return [
        (
            *((str(item.policy_id),) if len(policies) > 1 else ()),
            *((item.build,) if len(builds) > len(policies) else ()),
        )
        for item in items
    ]


def read_samples(source: str | Path | Ledger, wanted: Wanted = (None, None)) -> list[Samples]:
    """Read the latency samples of a ledger, one entry per configuration and component.

    Args:
        source: Ledger, by path or open.
        wanted: Only this policy_id and NFE.
    """
    ledger = open_ledger(source)
    frame = ledger.rows("latency", _COLUMNS).to_pandas()
    policy, nfe = wanted
    if policy is not None:
        frame = frame[frame["policy_id"] == policy]
    if nfe is not None:
        frame = frame[frame["nfe"] == nfe]
    nodes = ledger.rows("nodes", ["run_id", "node_id", "cpu", "cores", "accelerator"]).to_pandas()
    ordered = with_machines(frame, nodes).sort_values(["run_id", "node_id", "sample"], kind="stable")
    keys = [*_MACHINE, *_PLACE, *_BUILD]
    groups = ordered.groupby(keys, dropna=False, sort=True)
    return [_samples(dict(zip(keys, key, strict=True)), group) for key, group in groups]


def compare_latency(
    base: str | Path | Ledger,
    candidate: str | Path | Ledger,
    rng: np.random.Generator,
    *,
    base_variant: Wanted = (None, None),
    candidate_variant: Wanted = (None, None),
    confidence: float = 0.95,
    across: bool = False,
    energy: Literal["same", "any"] = "same",
) -> tuple[list[LatencyComparison], list[str]]:
    """Compare every component that both ledgers measured.

    Configurations belong together when machine, policy, NFE, batch size and component agree; a policy's name or an NFE
    that differs in only one value on each side is matched all the same. Data type and compile mode are what changes are
    made of: they have to agree only where a side has several.

    Args:
        base: Ledger.
        candidate: Ledger.
        rng: Source of the bootstrap's draws.
        base_variant: Only this (policy_id, NFE) of the base.
        candidate_variant: Only this (policy_id, NFE) of the candidate.
        confidence: Level of the intervals, two-sided.
        across: Whether one machine of the base may meet another of the candidate.
        energy: Whether energies of two sources are compared.

    Returns:
        The comparisons, and a sentence for every two machines that were not compared.
    """
    matched = match_samples(read_samples(base, base_variant), read_samples(candidate, candidate_variant), across=across)
    found = [replace(_compare(*pair, rng, confidence), energy=energy) for pair in matched.pairs]
    return found, list(matched.refused)


def refused_energies(base: Samples, candidate: Samples) -> str | None:
    """Why two energies are not compared unless somebody asks; None where they may be, or one is not known."""
    sources = base.energy_source, candidate.energy_source
    if None in sources or sources[0] == sources[1]:
        return None
    return f"Energies of two sources are not compared: {sources[0]} (base) and {sources[1]} (candidate)."


def _compare(base: Samples, candidate: Samples, rng: np.random.Generator, confidence: float) -> LatencyComparison:
    return LatencyComparison(
        base=base,
        candidate=candidate,
        median=compare_quantile(base.launches, candidate.launches, 0.5, rng, confidence),
        p99=compare_quantile(base.launches, candidate.launches, 0.99, rng, confidence),
        slower=slower_probability(base.latency_ms, candidate.latency_ms),
    )


@dataclass(frozen=True)
class Matched:
    """Samples of a base and a candidate that belong together."""

    pairs: tuple[tuple[Samples, Samples], ...]
    refused: tuple[str, ...]
    """A sentence for every two machines that would belong together, were they one."""


def match_samples(base: Sequence[Samples], candidate: Sequence[Samples], *, across: bool = False) -> Matched:
    """Match configurations; see `compare_latency`.

    Args:
        base: Samples of the base.
        candidate: Samples of the candidate.
        across: Whether samples of one machine may meet those of another, where each side has only one.
    """
    # A field that is constant on either side and differs between them is what is being compared, not a condition.
    free = {
        name
        for name in ("policy_id", "nfe")
        if len({getattr(item, name) for item in base}) == len({getattr(item, name) for item in candidate}) == 1
    }
    pairs: list[tuple[Samples, Samples]] = []
    refused: dict[str, None] = {}
    for item in candidate:
        partners = [other for other in base if _place(other, free) == _place(item, free)]
        rivals = [other for other in candidate if _place(other, free) == _place(item, free)]
        alike = [other for other in partners if other.machine.is_like(item.machine)]
        if not alike and across and len({other.machine for other in partners}) == 1 == len({r.machine for r in rivals}):
            alike = partners
        elif partners and not alike:
            refused[_refusal({other.machine.name for other in partners}, item.machine.name)] = None
        pairs += _by_build(alike, item, [other for other in rivals if other.machine == item.machine])
    return Matched(tuple(pairs), tuple(refused))


def _by_build(
    partners: Sequence[Samples], item: Samples, rivals: Sequence[Samples]
) -> Iterator[tuple[Samples, Samples]]:
    if len(partners) == 1 == len(rivals):
        yield partners[0], item
    else:
        yield from ((partner, item) for partner in partners if partner.build == item.build)


def _refusal(base: set[str], candidate: str) -> str:
    return (
        f"Latency, energy and memory of {' and '.join(sorted(base))} (base) and of {candidate} (candidate) are not "
        "compared: these are different machines."
    )


def _place(item: Samples, free: set[str]) -> tuple[object, ...]:
    return tuple(None if name in free else getattr(item, name) for name in _PLACE)


def _samples(key: dict[str, object], group: pd.DataFrame) -> Samples:
    def text(name: str) -> str | None:
        value = key[name]
        return value if isinstance(value, str) else None

    def number(name: str) -> int | None:
        value = key[name]
        return None if pd.isna(value) else int(value)  # type: ignore[call-overload]

    memory = group["memory_bytes"].max()
    energies, source = energies_of(group)
    by_process = energies.groupby([group.loc[energies.index, name] for name in LAUNCH], dropna=False).mean()
    return Samples(
        machine=Machine(text("hardware"), text("model")),
        policy_id=text("policy_id"),
        nfe=number("nfe"),
        dtype=text("dtype"),
        compile=text("compile"),
        batch_size=number("batch_size"),
        component=str(key["component"]),
        launches=by_launch(group),
        throttled=int(group["throttled"].dropna().astype(bool).sum()),
        energy_j=float(energies.mean()) if source else None,
        energy_source=source,
        energies_j=tuple(by_process.tolist()),
        memory_bytes=None if pd.isna(memory) else int(memory),
        runs=frozenset(group["run_id"].dropna()),
    )


def _ratio(base: float | None, candidate: float | None) -> float | None:
    return candidate / base if base and candidate is not None else None
