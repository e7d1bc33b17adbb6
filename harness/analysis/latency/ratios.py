"""Latency of two processes: ratios of quantiles with bootstrap intervals, on raw samples of one launch each.

Samples of one probe follow each other in time, so neighbours are alike: clocks ramp, caches warm. Treating them as
independent makes intervals too narrow. Each quantile is therefore bootstrapped with the *effective* number of samples,
estimated from the autocorrelation of "sample is above the quantile" and "above the median".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.analysis.intervals import Floats, Interval, order_statistic_ranks

RESAMPLES = 20_000
"""Bootstrap draws: 100 of them lie beyond a one-sided bound at 0.5 %."""


MIN_EFFECTIVE = 30
"""Fewer effective samples bound nothing: their number is itself estimated, and too high for short, slow series."""


@dataclass(frozen=True)
class QuantileRatio:
    """Ratio candidate / base of one quantile."""

    quantile: float
    base: float
    """The base's quantile, ms."""
    candidate: float
    """The candidate's quantile, ms."""
    ratio: float
    interval: Interval | None
    """Bootstrap interval; None with too few (effective) samples on a side."""
    effective: tuple[int, int]
    """What the interval takes as independent, base and candidate: launches; within one process, the effective numbers
    of samples."""
    within: bool = True
    """Whether the interval holds only within one process a side: another launch of the same binary may differ more."""
    p: float | None = None
    """Welch's test over launches, two-sided; None within one process."""


def effective_size(samples: Floats, quantile: float) -> int:
    """Number of independent samples that would fix a quantile as well as these do.

    The autocorrelation of "sample is above a high quantile" rests on few exceedances and comes out too small, so that
    of "sample is above the median" bounds it: in a stationary series with one memory the median's is the longer. Both
    come out too small on short series, so the time is raised by twice its relative error, about 1 / √size.

    Args:
        samples: In the order in which they were taken, shape (n,).
        quantile: Which quantile.

    Returns:
        n divided by the longer of the two autocorrelation times, between 1 and n.
    """
    time = max(_autocorrelation_time(samples, level) for level in {quantile, 0.5})
    size = samples.size / time
    return max(1, int(size / (1 + 2 / np.sqrt(max(size, 1)))))


def _autocorrelation_time(samples: Floats, quantile: float) -> float:
    """Integrated autocorrelation time of "sample > quantile", in samples, at least 1.

    Source: Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7 (1992): initial positive sequence.
    """
    n = samples.size
    above = (samples > np.quantile(samples, quantile)).astype(float)
    centred = above - above.mean()
    variance = float(centred @ centred) / n
    if n < 4 or variance == 0:
        return 1.0
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, size)[:n] / (n * variance)
    pairs = correlation[: n // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    kept = pairs[: negative[0]] if negative.size else pairs
    return max(1.0, 2 * float(kept.sum()) - 1)


def quantile_ratio(
    base: Floats, candidate: Floats, quantile: float, rng: np.random.Generator, confidence: float = 0.95
) -> QuantileRatio:
    """Ratio of a quantile, candidate over base.

    Resampling n values and taking their k-th smallest is drawing the k-th order statistic of n uniforms, which has a
    Beta distribution, and reading the sorted sample at that height: so a draw costs the same for 50 samples and for
    5 million.

    Args:
        base: Raw samples in order, ms, shape (n,).
        candidate: Raw samples in order, ms, shape (m,).
        quantile: In (0, 1).
        rng: Source of the draws.
        confidence: Two-sided level of the percentile interval.

    Raises:
        ValueError: A side has no samples.
    """
    if base.size == 0 or candidate.size == 0:
        raise ValueError("a side has no latency samples")
    sizes = effective_size(base, quantile), effective_size(candidate, quantile)
    points = float(np.quantile(base, quantile)), float(np.quantile(candidate, quantile))
    tail = (1 - confidence) / 2
    bounds = ratio_bounds(base, candidate, quantile, rng, tail, tail)
    return QuantileRatio(
        quantile=quantile,
        base=points[0],
        candidate=points[1],
        ratio=points[1] / points[0] if points[0] > 0 else float("nan"),
        interval=bounds if np.isfinite(bounds).all() else None,
        effective=sizes,
    )


def ratio_bounds(
    base: Floats,
    candidate: Floats,
    quantile: float,
    rng: np.random.Generator,
    alpha_low: float,
    alpha_high: float,
) -> Interval:
    """One-sided bounds of a ratio of quantiles, each with its own error rate; see `quantile_ratio`.

    Returns:
        Lower bound (wrong with probability `alpha_low`) and upper bound (`alpha_high`); minus or plus infinity where a
        side has too few effective samples to bound its quantile at that level.
    """
    sides = (base, candidate)
    sizes = [effective_size(side, quantile) for side in sides]
    if float(np.quantile(base, quantile)) <= 0:
        return Interval(-np.inf, np.inf)
    draws = [_draws(side, quantile, size, rng) for side, size in zip(sides, sizes, strict=True)]
    low, high = np.quantile(draws[1] / draws[0], [alpha_low, 1 - alpha_high])
    bounded = [all(_bounded(size, quantile, 1 - 2 * alpha) for size in sizes) for alpha in (alpha_low, alpha_high)]
    return Interval(float(low) if bounded[0] else -np.inf, float(high) if bounded[1] else np.inf)


def quantile_bounds(samples: Floats, quantile: float, alpha: float) -> Interval:
    """One-sided bounds of a quantile, each holding with probability 1 - alpha; infinite with too few samples.

    The ranks are those for independent samples at the effective size, carried over to the sorted sample.
    """
    size = effective_size(samples, quantile)
    if size < MIN_EFFECTIVE:
        return Interval(-np.inf, np.inf)
    low, high = order_statistic_ranks(size, quantile, 1 - 2 * alpha)
    ordered = np.sort(samples)
    scale = (samples.size + 1) / (size + 1)
    below = ordered[max(0, int(np.floor(low * scale)) - 1)] if low >= 1 else -np.inf
    above = ordered[min(samples.size, int(np.ceil(high * scale))) - 1] if high <= size else np.inf
    return Interval(float(below), float(above))


def slower_probability(base: Floats, candidate: Floats) -> float | None:
    """Probability that a random candidate sample exceeds a random base sample, ties counting half (Mann-Whitney).

    None where a side has fewer than `MIN_EFFECTIVE` samples: two of them would read "100 %".
    """
    if min(base.size, candidate.size) < MIN_EFFECTIVE:
        return None
    from scipy.stats import mannwhitneyu  # half a second, for those who ask

    found = mannwhitneyu(candidate, base, alternative="two-sided", method="asymptotic")
    return float(found.statistic) / (candidate.size * base.size)


def _bounded(size: int, quantile: float, confidence: float) -> bool:
    if size < MIN_EFFECTIVE:
        return False
    low, high = order_statistic_ranks(size, quantile, confidence)
    return low >= 1 and high <= size


def _draws(samples: Floats, quantile: float, size: int, rng: np.random.Generator) -> Floats:
    rank = quantile * (size + 1)
    heights = rng.beta(rank, size + 1 - rank, RESAMPLES)
    ordered = np.sort(samples)
    drawn: Floats = np.interp(heights * samples.size - 0.5, np.arange(samples.size), ordered)
    return drawn
