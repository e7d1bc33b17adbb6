"""Where the time of a run went."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.analysis.success.rates import VARIANT
from harness.ledger.schema import PHASES

PARTS = ("reset", "physics", "render", "policy_wait", "other")
"""Causes that an episode's wall time splits into; "other" is what the first four leave."""


def time_shares(episodes: pd.DataFrame) -> pd.DataFrame:
    """Split the wall time of all episodes, errors included, by cause.

    Args:
        episodes: `Ledger.episodes`.

    Returns:
        One row per (policy_id, nfe, clock, latency_source) with `episodes`, `wall_s` (summed over workers),
        `<part>_s` and `<part>_share` for
        each of `PARTS`, and `per_worker_hour` (episodes that one worker does in an hour). Without any wall time the
        shares and rates are NaN.
    """
    measured = ["reset_s", "physics_s", "render_s", "policy_wait_s"]
    grouped = episodes.groupby(VARIANT, dropna=False, sort=True)
    table = grouped[["wall_s", *measured]].sum().reset_index()
    table.insert(len(VARIANT), "episodes", grouped.size().to_numpy())
    table["other_s"] = (table["wall_s"] - table[measured].sum(axis=1)).clip(lower=0.0)
    total = table[[f"{part}_s" for part in PARTS]].sum(axis=1)
    total = total.where(total > 0)
    for part in PARTS:
        table[f"{part}_share"] = table[f"{part}_s"] / total
    table["per_worker_hour"] = 3600 * table["episodes"] / table["wall_s"].where(table["wall_s"] > 0)
    return table


WORKER_PARTS = ("startup", "build", "idle", "episodes", "end")
"""What a worker's time in a run splits into; "end" is from its last episode to that of the whole run."""


def worker_time(episodes: pd.DataFrame) -> pd.DataFrame:
    """Split the time of a run's workers, so that the parts add up to workers × the run's time.

    The run is counted from its start to the end of its last episode. Attempts that a dead worker took with it count as
    idle time of nobody.

    Args:
        episodes: `Ledger.episodes`; rows of before these columns were written, and of lost workers, are left out.

    Returns:
        One row per run_id with `workers`, `run_s`, `worker_s` (their product), `<part>_s` and `<part>_share` for each
        of `WORKER_PARTS`.
    """
    names = ["run_id", "workers", "run_s", "worker_s"]
    names += [f"{part}_s" for part in WORKER_PARTS] + [f"{part}_share" for part in WORKER_PARTS]
    known = episodes.dropna(subset=["worker", "started_at", "wall_s"])
    rows = []
    for run_id, run in known.groupby("run_id", sort=False):
        parts = run[["startup_s", "build_s", "idle_s"]].fillna(0.0)
        start = run["started_at"].astype("datetime64[us, UTC]").astype("int64") / 1e6
        frame = pd.DataFrame(
            {
                "worker": run["worker"],
                "begin": start - parts.sum(axis=1),
                "end": start + run["wall_s"],
            }
        ).groupby("worker")
        begin, end = frame["begin"].min(), frame["end"].max()
        run_s = float(end.max() - begin.min())
        seconds = {part: float(parts[f"{part}_s"].sum()) for part in ("startup", "build", "idle")}
        seconds["episodes"] = float(run["wall_s"].sum())
        total = run_s * len(begin)
        seconds["end"] = max(total - sum(seconds.values()), 0.0)
        shares = {f"{part}_share": value / total if total > 0 else float("nan") for part, value in seconds.items()}
        row = {"run_id": run_id, "workers": len(begin), "run_s": run_s, "worker_s": total}
        rows.append(row | {f"{part}_s": value for part, value in seconds.items()} | shares)
    return pd.DataFrame(rows, columns=names)


def throughput(episodes: pd.DataFrame) -> pd.DataFrame:
    """Episodes an hour of whole runs, over the time in which any episode was under way.

    Pauses between an interrupted run and its resumption do not count.

    Returns:
        One row per run_id with `episodes`, `busy_s`, `per_hour` and `concurrency` (mean number of episodes at once),
        over the episodes whose start and duration are known.
    """
    timed = episodes.dropna(subset=["started_at", "wall_s"])
    rows = []
    for run_id, run in timed.groupby("run_id", sort=False):
        start = run["started_at"].astype("datetime64[us, UTC]").astype("int64").to_numpy() / 1e6
        wall = run["wall_s"].to_numpy(dtype=float)
        busy = _union_length(sorted(zip(start, start + wall, strict=True)))
        rows.append(
            {
                "run_id": run_id,
                "episodes": len(run),
                "busy_s": busy,
                "per_hour": 3600 * len(run) / busy if busy > 0 else float("nan"),
                "concurrency": wall.sum() / busy if busy > 0 else float("nan"),
            }
        )
    return pd.DataFrame(rows, columns=["run_id", "episodes", "busy_s", "per_hour", "concurrency"])


def _union_length(intervals: list[tuple[float, float]]) -> float:
    """Length of the union of intervals sorted by their start."""
    total, end = 0.0, float("-inf")
    for start, stop in intervals:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


BUSY = ("workers_busy", "server_busy", "gpu_busy")
"""What `usage` tells the busy share of."""


def busy_shares(usage: pd.DataFrame) -> pd.DataFrame:
    """Who was busy, as shares: samples of `usage` with workers counted as a share of those there.

    Args:
        usage: `Ledger.usage`.

    Returns:
        The samples with `run_id`, `node_id`, `at`, `workers`, `minutes` since the first sample of the run, and each of
        `BUSY` in [0, 1], null where nothing of the kind was there.
    """
    shares = usage[["run_id", "node_id", "at", "workers"]].copy()
    shares["minutes"] = (usage["at"] - usage.groupby("run_id")["at"].transform("min")).dt.total_seconds() / 60
    workers = usage["workers"].astype("float64")
    shares["workers_busy"] = usage["workers_busy"].astype("float64") / workers.where(workers > 0)
    for name in BUSY[1:]:
        shares[name] = usage[name].astype("float64")
    return shares


MAX_POINTS = 240
"""Points of a line over time: more are averaged, so that a long night stays a small page."""


def busy_lines(usage: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Who was busy over each run's time, node by node, in at most `MAX_POINTS` points.

    Returns:
        (run_id, node_id) → rows with `minutes` and each of `BUSY` in [0, 1]; nodes with one sample are left out.
    """
    lines = {}
    for (run_id, node_id), samples in busy_shares(usage).groupby(["run_id", "node_id"], sort=False):
        if len(samples) > 1:
            groups = np.arange(len(samples)) // -(-len(samples) // MAX_POINTS)
            lines[str(run_id), str(node_id)] = samples[["minutes", *BUSY]].groupby(groups).mean()
    return lines


def utilisation(usage: pd.DataFrame) -> pd.DataFrame:
    """How busy the workers, policy servers and GPUs of each node were over a run's rollouts.

    Args:
        usage: `Ledger.usage`.

    Returns:
        One row per (run_id, node_id) with `samples`, `workers` (most at a time), and each of `BUSY`: its mean over
        the samples, in [0, 1]; NaN where nothing of the kind was there.
    """
    grouped = busy_shares(usage).groupby(["run_id", "node_id"], sort=False)
    table = grouped.agg(samples=("at", "size"), workers=("workers", "max"), **{name: (name, "mean") for name in BUSY})
    return table.reset_index()


def phase_times(phases: pd.DataFrame) -> pd.DataFrame:
    """What the phases of each run took.

    Args:
        phases: `Ledger.phases`.

    Returns:
        One row per run_id with `total_s` and a column of seconds for each of `harness.ledger.schema.PHASES`; a phase
        that did not come to pass took 0.
    """
    wide = phases.pivot_table(index="run_id", columns="phase", values="seconds", aggfunc="sum", sort=False)
    wide = wide.reindex(columns=list(PHASES)).fillna(0.0)
    wide.columns.name = None
    wide.insert(0, "total_s", wide.sum(axis=1))
    return wide.reset_index()
