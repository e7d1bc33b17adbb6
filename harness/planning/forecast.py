"""A forecast: many simulated runs, their finish time with a band, and what bound them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from harness.planning.draws import Basis, find_basis
from harness.planning.evidence import RunEvidence
from harness.planning.simulate import CATEGORIES, Setting, SimulatedRun, hardware_of, simulate
from harness.schedule.units import EpisodeUnit

BAND = 0.9
"""Share of runs that the band is meant to cover."""
MOST, LEAST = 40, 3
"""Simulated runs of a forecast: as many as the time allows, between these. Three hold a rate of success of 0, of 1 and
one between, where it is not known."""
WORLDS = 6
"""Runs that are equally near and taken in turn, each as one way the planned run may go."""
SLICES = 12


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will take."""

    finish_s: float
    """Median, seconds from the run's start to its end."""
    low_s: float
    high_s: float
    episodes: int
    workers: int
    replications: int
    spread: float
    """Of the logarithm, of what is not simulated: how well samples stand for this run."""
    bound: tuple[tuple[float, str, float], ...]
    """(until this second, what most of the workers' time goes to, its share)."""
    shares: Mapping[str, float]
    """Of all workers' time."""
    utilisation: Mapping[str, float]
    """Node → share of its cores' time in which they compute."""
    server_busy: float | None
    """Share of its time in which a policy server computes, mean; None without one."""
    notes: tuple[str, ...] = field(default=())
    samples: tuple[float, ...] = field(default=(), repr=False)
    """Finish times with their doubts: what probabilities are read from."""

    def probability_by(self, seconds: float) -> float:
        """Probability that the run has ended by then."""
        return sum(sample <= seconds for sample in self.samples) / len(self.samples)


def forecast(
    units: Sequence[EpisodeUnit],
    runs: Sequence[RunEvidence],
    setting: Setting,
    *,
    light: Callable[[str], bool] | None = None,
    max_steps: Mapping[str, int] | None = None,
    seconds: Callable[[], float],
    budget_s: float = 8.0,
    least: int = LEAST,
    seed: int = 0,
) -> Forecast:
    """Forecast a run.

    Args:
        units: The plan.
        runs: What durations are drawn from.
        setting: Nodes and workers.
        light: Policy label → whether workers decide for themselves.
        max_steps: LIBERO suite → length of a timeout.
        seconds: Stopwatch.
        budget_s: No further replication begins after this long.
        least: Replications that are made however long they take.
        seed: Of all draws.

    Raises:
        UsageError: There is nothing to draw from.
    """
    cores = sum(node.cpus for node in setting.nodes)
    load = (setting.workers or cores) / max(cores, 1)
    kinds = {hardware_of(node): node.cpus for node in setting.nodes}
    worlds: list[dict[str, Basis]] = []
    began, outcomes = seconds(), list[SimulatedRun]()
    while len(outcomes) < MOST:
        spent, n = seconds() - began, len(outcomes)
        if n >= least and spent + spent / n > budget_s:
            break
        if n < WORLDS:
            worlds.append(
                {
                    hardware: find_basis(
                        units, runs, hardware=hardware, load=load, cores=own, light=light, max_steps=max_steps, choice=n
                    )
                    for hardware, own in kinds.items()
                }
            )
        # Rates of success from one end to the other, so that few replications hold both.
        rate = None if n > 1 else float(n)
        outcomes.append(simulate(units, worlds[n % WORLDS], setting, seed=seed + n, success=rate))
    bases = worlds[0].values()
    spread = max(basis.spread for basis in bases)
    finish = np.array([outcome.finish_s for outcome in outcomes])
    rng = np.random.default_rng(seed)
    drawn = rng.choice(finish, 2000) * np.exp(spread * rng.standard_normal(2000))
    low, high = np.quantile(drawn, [(1 - BAND) / 2, (1 + BAND) / 2])
    if any(not source.known_success for basis in bases for source in basis.policies.values()):
        low, high = min(low, finish.min()), max(high, finish.max())
    middle = outcomes[int(np.argsort(finish)[len(finish) // 2])]
    shares, bound = _what_binds(middle)
    return Forecast(
        float(np.median(finish)),
        float(low),
        float(high),
        len(units),
        middle.workers,
        len(outcomes),
        spread,
        bound,
        shares,
        {
            node.node_id: middle.node_busy_s.get(node.node_id, 0.0) / (node.cpus * middle.finish_s)
            for node in setting.nodes
        },
        middle.server_busy_s / middle.servers / middle.finish_s if middle.servers else None,
        tuple(dict.fromkeys(note for basis in bases for note in basis.notes)),
        tuple(float(value) for value in drawn),
    )


def _what_binds(outcome: SimulatedRun) -> tuple[dict[str, float], tuple[tuple[float, str, float], ...]]:
    """Where workers' time goes, in all and slice by slice."""
    end = max((until for _, until, _ in outcome.spans), default=0.0)
    if end <= 0:
        return {}, ()
    since = np.array([span[0] for span in outcome.spans])
    until = np.array([span[1] for span in outcome.spans])
    shares = np.array([span[2] for span in outcome.spans])
    edges = np.linspace(0, end, SLICES + 1)
    table = np.array(
        [
            np.clip(np.minimum(until, right) - np.maximum(since, left), 0, None) @ shares
            for left, right in pairwise(edges)
        ]
    )
    total = table.sum(axis=0) / max(table.sum(), 1e-12)
    bound: list[tuple[float, str, float]] = []
    for right, row in zip(edges[1:], table, strict=True):
        if not math.isclose(row.sum(), 0.0, abs_tol=1e-12):
            best = int(row.argmax())
            bound.append((float(right), CATEGORIES[best], float(row[best] / row.sum())))
    merged = [entry for i, entry in enumerate(bound) if i + 1 == len(bound) or bound[i + 1][1] != entry[1]]
    return dict(zip(CATEGORIES, map(float, total), strict=True)), tuple(merged)
