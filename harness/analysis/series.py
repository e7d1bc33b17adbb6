"""Results over many nights: where the level changed, judged against all nights and not only the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import lfilter

from harness.analysis.intervals import Floats, Ints

PERMUTATIONS = 1999
"""Permutations of a test: the smallest p value is 1 / 2000."""

SIMULATED = 999
"""Autocorrelated series that never changed, with which a step is compared as well."""

CORRELATIONS = np.arange(0.0, 0.95, 0.1)
"""Autocorrelations of neighbouring nights that are tried."""

DOUBT = 0.1
"""Nights are taken as autocorrelated as they can be without so few of them being surprising: the share of series of an
autocorrelation whose residuals are less alike than those seen. Measured: see docs/results.md."""

BURN_IN = 100
"""Nights that a simulated series runs before it counts."""

MIN_NIGHTS = 6
"""With fewer nights no split can be surprising at 5 %: there are too few orders to compare with."""


@dataclass(frozen=True)
class Step:
    """A change of level between two nights."""

    position: int
    """Index of the first night of the new level."""
    before: float
    """Weighted mean of the level before, back to the previous step."""
    after: float
    """Weighted mean of the level after, up to the next step."""
    p: float
    """Permutation p value: how often nights in random order show as much."""


def find_steps(
    values: ArrayLike, weights: ArrayLike, rng: np.random.Generator, *, alpha: float = 0.05
) -> tuple[Step, ...]:
    """Find the nights at which a series changed its level.

    Two questions, each at half of alpha: which single change of level, and which run of nights, explains most? Either
    is compared with the best of the same nights in random order; if one holds, its ends are steps, and the parts are
    searched in turn. When nothing ever changed and nights are independent, the probability of any step is at most
    `alpha`, whatever the nights' distribution and spread. Nights that are like their neighbours (a machine that is warm
    for a week) wander without any change: a step has to be surprising among autocorrelated series as well, with what is
    left of the nights beside the step telling how autocorrelated they are. A night or two at the end can be told from
    chance only in a long series (two among 13 at 5 %, three among ten): the last night is what a gate is for.

    Args:
        values: One figure per night, in order of time: a success rate, or a logarithm of a latency. Shape (n,).
        weights: How much each night says, e.g. its number of episodes. Shape (n,), above 0.
        rng: Source of the permutations.
        alpha: Probability of a false step.

    Returns:
        Steps in order of time; none for series of fewer than `MIN_NIGHTS`.

    Raises:
        ValueError: Shapes differ, or a value is not finite.

    Sources: circular binary segmentation, Olshen, Venkatraman, Lucito and Wigler, Biostatistics 5 (2004);
    bootstrap of an autoregression, Davison and Hinkley, Bootstrap Methods (1997), chapter 8.
    """
    series, mass = np.asarray(values, dtype=float), np.asarray(weights, dtype=float)
    if series.shape != mass.shape or series.ndim != 1:
        raise ValueError(f"values have shape {series.shape}, weights {mass.shape}; both have to be (n,)")
    if not (np.isfinite(series).all() and np.isfinite(mass).all() and (mass > 0).all()):
        raise ValueError("a value is not finite, or a weight is not above 0")
    found = sorted(_segment(series, mass, 0, series.size, rng, alpha))
    edges = [0, *(position for position, _ in found), series.size]
    means = [
        float(np.average(series[start:end], weights=mass[start:end])) for start, end in pairwise(edges) if end > start
    ]
    return tuple(
        Step(position, before, after, p) for (position, p), before, after in zip(found, means, means[1:], strict=False)
    )


def _segment(
    values: Floats, weights: Floats, start: int, end: int, rng: np.random.Generator, alpha: float
) -> list[tuple[int, float]]:
    if end - start < MIN_NIGHTS or np.ptp(values[start:end]) == 0:
        return []
    part, mass = values[start:end], weights[start:end]
    orders = rng.permuted(np.tile(np.arange(part.size), (PERMUTATIONS, 1)), axis=1)
    tests = []
    for at_an_end in (True, False):
        gain, first, last = _best_run(part[None], mass[None], at_an_end=at_an_end)
        permuted, _, _ = _best_run(part[orders], mass[orders], at_an_end=at_an_end)
        # Sums in another order differ by rounding: an equally good run must count as one.
        at_least = int((permuted >= gain[0] * (1 - 1e-9)).sum())
        tests.append((2 * (1 + at_least) / (PERMUTATIONS + 1), int(first[0]), int(last[0])))
    p, begin, stop = min(tests)
    if p <= alpha:
        p = max(p, _wandering_p(part, mass, rng))
    if p > alpha:
        return []
    edges = [start, *(start + edge for edge in (begin, stop) if 0 < edge < part.size), end]
    found = [(edge, p) for edge in edges[1:-1]]
    for left, right in pairwise(edges):
        found += _segment(values, weights, left, right, rng, alpha / (len(edges) - 1))
    return found


def _wandering_p(values: Floats, weights: Floats, rng: np.random.Generator) -> float:
    """P value of the best step among series that only wander: of as much autocorrelation as these nights may have."""
    likeness = _likeness(values[None], weights[None])[0]
    some = np.broadcast_to(weights, (PERMUTATIONS // 20, values.size))
    fitting = [
        rho
        for rho in CORRELATIONS
        if np.quantile(_likeness(_wandering(some.shape, float(rho), rng), some), DOUBT) <= likeness
    ]
    many = np.broadcast_to(weights, (SIMULATED, values.size))
    series = _wandering(many.shape, float(max(fitting, default=0.0)), rng)
    found = []
    for at_an_end in (True, False):
        seen = _explained(values[None], weights[None], at_an_end=at_an_end)[0]
        at_least = int((_explained(series, many, at_an_end=at_an_end) >= seen * (1 - 1e-9)).sum())
        found.append(2 * (1 + at_least) / (SIMULATED + 1))
    return min(found)


def _wandering(shape: tuple[int, ...], rho: float, rng: np.random.Generator) -> Floats:
    """Series of a first-order autoregression in its steady state, of variance 1."""
    drawn = rng.standard_normal((shape[0], shape[1] + BURN_IN))
    series: Floats = lfilter([np.sqrt(1 - rho**2)], [1, -rho], drawn, axis=1)[:, BURN_IN:]
    return series


def _likeness(values: Floats, weights: Floats) -> Floats:
    """Autocorrelation of neighbouring nights once the best run and a steady slide are taken out, shape (m,)."""
    _, first, last = _best_run(values, weights, at_an_end=False)
    place = np.arange(values.shape[1])
    inside = (place >= first[:, None]) & (place < last[:, None])
    slide = np.broadcast_to(place - place.mean(), values.shape)
    design = np.stack([np.ones(values.shape), inside, slide], axis=2)
    across = np.swapaxes(design, 1, 2)
    fitted = np.linalg.solve(across @ design + 1e-9 * np.eye(3), across @ values[..., None])
    rest = values - (design @ fitted)[..., 0]
    alike: Floats = (rest[:, 1:] * rest[:, :-1]).sum(axis=1) / np.maximum((rest**2).sum(axis=1), 1e-300)
    return alike


def _explained(values: Floats, weights: Floats, *, at_an_end: bool) -> Floats:
    """Share of the weighted sum of squares that the best run explains, shape (m,)."""
    gain, _, _ = _best_run(values, weights, at_an_end=at_an_end)
    mean = (weights * values).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    share: Floats = gain / np.maximum((weights * (values - mean) ** 2).sum(axis=1), 1e-300)
    return share


def _best_run(values: Floats, weights: Floats, *, at_an_end: bool) -> tuple[Floats, Ints, Ints]:
    """The run of nights that stands out most from the others.

    Args:
        values: Shape (m, n).
        weights: Same shape.
        at_an_end: Only runs that begin with the first night: a single change of level. Else any run.

    Returns:
        Weighted sum of squares that it explains, its first night, and the night after its last; each of shape (m,).
    """
    m, n = values.shape
    rows, zero = np.arange(m), np.zeros((m, 1))
    mass = np.hstack([zero, np.cumsum(weights, axis=1)])
    total = mass[:, -1:]
    mean = (weights * values).sum(axis=1, keepdims=True) / total
    off = np.hstack([zero, np.cumsum(weights * (values - mean), axis=1)])
    best = np.full(m, -1.0)
    first: Ints = np.zeros(m, dtype=np.int64)
    last: Ints = np.zeros(m, dtype=np.int64)
    for length in range(1, n):
        starts = 1 if at_an_end else n - length + 1
        inside = mass[:, length : length + starts] - mass[:, :starts]
        gains = (off[:, length : length + starts] - off[:, :starts]) ** 2 * (1 / inside + 1 / (total - inside))
        place = gains.argmax(axis=1)
        better = gains[rows, place] > best
        best[better] = gains[rows, place][better]
        first[better], last[better] = place[better], place[better] + length
    return best, first, last


def log_medians(medians: Sequence[float]) -> Floats:
    """Latencies as logarithms, so that a step is a ratio."""
    logs: Floats = np.log(np.asarray(medians, dtype=float))
    return logs
