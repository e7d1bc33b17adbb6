"""Launches as the unit of a latency: processes of one binary differ in level, and no sample tells by how much.

On one H100, three fresh processes of Pi0.5 had medians of 56.9, 61.7 and 57.7 ms; over all variants measured there the
launches' standard deviation was 0.7 to 4.4 % of the median and 5 to 23 % of p99. So each launch gives one number, the
log of its quantile, whatever happened within it (clock states, slow neighbours), and intervals are those of Welch's t
over launches. How often they hold: `tests/benchmarks/bench_latency_verdicts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from harness.analysis.intervals import Floats, Interval
from harness.analysis.latency.ratios import QuantileRatio, quantile_bounds, quantile_ratio
from harness.analysis.laws import normal_sf, t_isf, t_sf

Launches = Sequence[Floats]
"""Raw samples of each launch, in the order in which they were taken, ms."""

ASSUMED_SPREAD = {0.5: 0.05, 1.0: 0.25}
"""Quantile up to which → standard deviation of the log quantile between launches that is assumed where there is only
one launch: above those of Pi0.5 on an H100 (0.7 to 4.4 % for medians, 5 to 23 % for p99);
eager `flow` there had 10 to 24 % in its median."""

CORRECTED_FROM = 5
"""Launches a side from which the corrected degrees of freedom hold what they promise; below, Welch's own do."""

METHOD: Literal["median_unbiased"] = "median_unbiased"
"""Estimator of a launch's quantile: the usual ones lie low for p99 of few samples, by an amount that depends on how
many there are. Source: Hyndman and Fan, The American Statistician 50 (1996), type 8."""

MOST_LAUNCHES = 1_000
"""More launches than that are not asked for."""

WITHIN = "within one process"
"""What is said beside an interval that rests on one launch."""


LAUNCH = ["run_id", "node_id", "launch"]
"""What the samples of one launch have in common; a null launch is one launch a run."""


def by_launch(samples: pd.DataFrame) -> list[Floats]:
    """Latencies of one component in one configuration, ms, launch by launch.

    Args:
        samples: Rows of `latency`, in the order in which they were taken.
    """
    if all(len(samples[name].unique()) == 1 for name in LAUNCH):
        return [samples["latency_ms"].to_numpy(dtype=float)]
    launches = samples.groupby(LAUNCH, dropna=False, sort=True)["latency_ms"]
    return [group.to_numpy(dtype=float) for _, group in launches]


def least_samples(quantile: float) -> int:
    """Samples that a launch needs to say anything of a quantile: 100 for p99, 2 for the median."""
    return int(np.ceil(round(1 / min(quantile, 1 - quantile), 6)))


def assumed_spread(quantile: float) -> float:
    """Spread between launches that is assumed where one launch cannot show it, as a fraction."""
    return next(spread for up_to, spread in ASSUMED_SPREAD.items() if quantile <= up_to)


@dataclass(frozen=True)
class Level:
    """The log of a quantile, as some launches tell it."""

    log: float
    """Mean over the launches: the log of the geometric mean of their quantiles in ms."""
    variance: float
    """Of that mean; NaN where it cannot be told."""
    freedom: float
    """Degrees of freedom of the variance; infinite where the spread is assumed."""
    launches: int

    @property
    def spread(self) -> float:
        """Standard deviation between launches, as a fraction."""
        return float(np.sqrt(self.variance * self.launches))


def level(launches: Launches, quantile: float) -> Level:
    """What some launches say of a quantile.

    With one launch the variance is what its samples say of themselves plus the assumed spread between launches.
    """
    logs = np.array([_log_quantile(samples, quantile) for samples in launches])
    if logs.size > 1:
        found = level_of(logs)
        enough = min(samples.size for samples in launches) >= least_samples(quantile)
        return found if enough else replace(found, variance=np.nan)
    # Bounds at one standard error, as a normal law has them.
    low, high = quantile_bounds(launches[0], quantile, float(normal_sf(1)))
    known = np.isfinite([low, high]).all() and low > 0
    within = (np.log(high / low) / 2) ** 2 if known else np.nan
    return Level(float(logs[0]), float(within) + assumed_spread(quantile) ** 2, np.inf, 1)


def level_of(logs: Floats) -> Level:
    """What the logs of a quantile in two launches or more say of it."""
    n = logs.size
    return Level(float(logs.mean()), float(logs.var(ddof=1)) / n, n - 1.0, n)


def means_level(means: Sequence[float]) -> Level:
    """What the mean of something in each launch, above 0, says of it: as `level` says it of a quantile.

    With one launch the spread of medians between launches is assumed.
    """
    logs = np.log(np.asarray(means, dtype=float))
    return level_of(logs) if logs.size > 1 else Level(float(logs[0]), assumed_spread(0.5) ** 2, np.inf, 1)


def _log_quantile(samples: Floats, quantile: float) -> float:
    value = float(np.quantile(samples, quantile, method=METHOD))
    return float(np.log(value)) if value > 0 else np.nan


def freedom(base: Level, candidate: Level) -> float:
    """Degrees of freedom of the difference of two levels.

    Welch's formula gives too few, because a ratio of estimated variances scatters; with the correction the interval is
    as short as it may be. Source: B. L. Welch, Biometrika 34 (1947), 28-35, equation 28.
    """
    sides = (base, candidate)
    extra = 2 if min(side.launches for side in sides) >= CORRECTED_FROM else 0
    total = sum(side.variance for side in sides)
    if not total > 0:
        return min(side.freedom for side in sides)
    scatter = sum(side.variance**2 / (side.freedom + extra) for side in sides)
    return total**2 / scatter - extra if scatter > 0 else np.inf


def ratio_limits(base: Launches, candidate: Launches, quantile: float, alpha_low: float, alpha_high: float) -> Interval:
    """One-sided bounds of the ratio candidate / base of a quantile, each with its own error rate.

    Returns:
        Lower bound (wrong with probability `alpha_low`) and upper bound (`alpha_high`), about launches like these;
        minus or plus infinity where there are too few samples in a launch.
    """
    return limits_between(level(base, quantile), level(candidate, quantile), alpha_low, alpha_high)


def limits_between(base: Level, candidate: Level, alpha_low: float, alpha_high: float) -> Interval:
    """One-sided bounds of the ratio of two levels; see `ratio_limits`."""
    log, variance = candidate.log - base.log, base.variance + candidate.variance
    return _limits(log, variance, freedom(base, candidate), alpha_low, alpha_high)


def level_limits(launches: Launches, quantile: float, alpha_low: float, alpha_high: float) -> Interval:
    """One-sided bounds of a quantile, ms, as `ratio_limits` gives them of a ratio."""
    own = level(launches, quantile)
    return _limits(own.log, own.variance, own.freedom, alpha_low, alpha_high)


def _limits(log: float, variance: float, free: float, alpha_low: float, alpha_high: float) -> Interval:
    if not np.isfinite([log, variance]).all():
        return Interval(-np.inf, np.inf)
    error = np.sqrt(variance)
    low, high = log - t_isf(alpha_low, free) * error, log + t_isf(alpha_high, free) * error
    return Interval(float(np.exp(low)), float(np.exp(high)))


def compare_quantile(
    base: Launches, candidate: Launches, quantile: float, rng: np.random.Generator, confidence: float = 0.95
) -> QuantileRatio:
    """Ratio of a quantile, candidate over base, with its interval.

    Args:
        base: Samples by launch.
        candidate: Samples by launch.
        quantile: In (0, 1).
        rng: Source of the bootstrap's draws where a side has one launch.
        confidence: Two-sided level.

    Returns:
        About launches like these where both sides have several; else `within` is set, and the interval holds for the
        samples of these very processes.
    """
    if min(len(base), len(candidate)) == 1:
        return quantile_ratio(np.concatenate(base), np.concatenate(candidate), quantile, rng, confidence)
    old, new = level(base, quantile), level(candidate, quantile)
    tail = (1 - confidence) / 2
    bounds = ratio_limits(base, candidate, quantile, tail, tail)
    error = np.sqrt(old.variance + new.variance)
    p = 2 * float(t_sf(abs(new.log - old.log) / error, freedom(old, new))) if error > 0 else np.nan
    return QuantileRatio(
        quantile=quantile,
        base=float(np.exp(old.log)),
        candidate=float(np.exp(new.log)),
        ratio=float(np.exp(new.log - old.log)),
        interval=bounds if np.isfinite(bounds).all() else None,
        effective=(len(base), len(candidate)),
        within=False,
        p=p if np.isfinite(p) else None,
    )


def launches_needed(base: Launches, candidate: Launches, quantile: float, limit: float, alpha: float) -> int | None:
    """Launches a side after which the ratio would be told from a limit, if it and the spread stay what they are.

    Returns:
        The number; None where it exceeds `MOST_LAUNCHES` or cannot be told.
    """
    old, new = level(base, quantile), level(candidate, quantile)
    distance = abs(np.log(limit) - (new.log - old.log))
    variance = old.variance * old.launches + new.variance * new.launches
    counts = np.arange(2, MOST_LAUNCHES + 1)
    enough = counts[t_isf(alpha, 2 * counts - 2) * np.sqrt(variance / counts) <= distance]
    return int(enough[0]) if enough.size else None


def could_pass(base: Launches, quantile: float, limit: float, alpha: float, power: float = 0.9) -> bool:
    """Whether an unchanged candidate with as many launches would pass a limit on the ratio.

    Args:
        base: Samples by launch; one launch shows no spread, so nothing could pass.
        quantile: In (0, 1).
        limit: Largest tolerated ratio.
        alpha: Error rate of the upper bound.
        power: Probability with which it has to pass, if launches differ as these do.
    """
    own = level(base, quantile)
    if own.launches < 2 or not np.isfinite(own.variance):
        return False
    free = 2 * own.launches - 2
    needed = t_isf(alpha, free) + t_isf(1 - power, free)
    return bool(needed * np.sqrt(2 * own.variance) <= np.log(limit))
