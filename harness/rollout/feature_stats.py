"""Statistics of a dataset's features, as LeRobot's datasets carry them: min, max, mean, std, count and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = dict[str, NDArray[Any]]
"""Statistic → one value per component; "count" has shape (1,)."""

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
SAMPLED_FRAMES = 20
"""Frames of an episode that image statistics are taken from, evenly spread."""
SAMPLED_PIXELS = 4
"""Of those frames, every so many rows and columns."""


def vector_stats(values: NDArray[Any]) -> Stats:
    """Statistics over the rows of (N, D) or (N,) values; each of shape (D,), or (1,)."""
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(axis=0),
        "max": rows.max(axis=0),
        "mean": rows.mean(axis=0),
        "std": rows.std(axis=0),
        "count": np.array([len(rows)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def frame_stats(frames: NDArray[np.uint8]) -> Stats:
    """Statistics per channel of frames (N, H, W, 3), in [0, 1], of shape (3, 1, 1); "count" is that of frames."""
    some = frames[:: max(1, len(frames) // SAMPLED_FRAMES)]
    pixels = some[:, ::SAMPLED_PIXELS, ::SAMPLED_PIXELS].reshape(-1, 3) / 255.0
    stats = {name: value.reshape(3, 1, 1) for name, value in vector_stats(pixels).items() if name != "count"}
    return {**stats, "count": np.array([len(some)])}


def pooled_stats(parts: Sequence[Stats]) -> Stats:
    """Statistics of a union from those of its parts; quantiles are averaged by count, as LeRobot does it."""
    counts = np.stack([part["count"] for part in parts]).astype(np.float64)
    weights = counts.reshape(len(parts), *[1] * parts[0]["mean"].ndim) / counts.sum()
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    mean = (stacked["mean"] * weights).sum(axis=0)
    variance = ((stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2) * weights).sum(axis=0)
    return {
        "min": stacked["min"].min(axis=0),
        "max": stacked["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": stacked["count"].sum(axis=0),
        **{name: (stacked[name] * weights).sum(axis=0) for name in QUANTILES},
    }
