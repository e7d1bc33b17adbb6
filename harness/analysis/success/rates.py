"""Success rates with their uncertainty, and what went wrong beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analysis.intervals import Floats, clopper_pearson
from harness.analysis.success.credit import scores

CONFIDENCE = 0.95

TIMING = ["clock", "latency_source"]
"""How simulated time passed while the policy decided, and what decisions took."""
VARIANT = ["policy_id", "nfe", *TIMING]
"""What is compared: a policy at an NFE, under a clock with a source of delays."""


def success_by_suite(episodes: pd.DataFrame) -> pd.DataFrame:
    """Success of each policy and NFE on each suite, over all of the suite's episodes.

    Args:
        episodes: `Ledger.episodes`: one row per episode.

    Returns:
        One row per (policy_id, nfe, clock, latency_source, suite) with `n` (success + timeout),
        `successes`, `timeouts`, `errors`, `rate`,
        `low`, `high` (Clopper-Pearson, 95 %), `tasks`, `retried` (episodes that needed more than one attempt), `steps`
        (median control steps of successes), `clipped` (actions outside the range) and `score` (mean partial credit; NaN
        where the world declares no goals). Errors count in no rate; without
        scored episodes `rate` and its bounds are NaN.
    """
    return _success(episodes, [*VARIANT, "suite"])


def success_by_task(episodes: pd.DataFrame) -> pd.DataFrame:
    """As `success_by_suite`, per task: one row per (…, suite, task_id, task)."""
    return _success(episodes, [*VARIANT, "suite", "task_id", "task"])


def error_counts(episodes: pd.DataFrame) -> pd.DataFrame:
    """Every distinct infrastructure error.

    Returns:
        One row per (…, error_type, error_message) with `count` and `tasks` (affected tasks), most frequent
        first.
    """
    errors = episodes[episodes["outcome"] == "error"]
    keys = [*VARIANT, "error_type", "error_message"]
    grouped = errors.groupby(keys, dropna=False, sort=True)
    counted = grouped.agg(count=("episode_key", "size"), tasks=("task", "nunique")).reset_index()
    return counted.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def retry_counts(retried: pd.DataFrame) -> pd.DataFrame:
    """What was tried again, by node.

    Args:
        retried: Attempts that do not count, rows of `episodes`.

    Returns:
        One row per (…, node_id, error_type) with `count` and `error_message` (the first), most frequent first.
    """
    grouped = retried.groupby([*VARIANT, "node_id", "error_type"], dropna=False, sort=True)
    counted = grouped.agg(count=("episode_key", "size"), error_message=("error_message", "first")).reset_index()
    return counted.sort_values("count", ascending=False, kind="stable", ignore_index=True)


def _success(episodes: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    solved = episodes["outcome"] == "success"
    marked = episodes.assign(
        successes=solved,
        timeouts=episodes["outcome"] == "timeout",
        errors=episodes["outcome"] == "error",
        retried=episodes["attempt"].fillna(1) > 1,
        steps=episodes["steps"].astype("Float64").where(solved),
        score=_scores(episodes),
    )
    grouped = marked.groupby(list(keys), dropna=False, sort=True, observed=True)
    table = grouped.agg(
        successes=("successes", "sum"),
        timeouts=("timeouts", "sum"),
        errors=("errors", "sum"),
        tasks=("task_id", "nunique"),
        retried=("retried", "sum"),
        steps=("steps", "median"),
        clipped=("clipped", "sum"),
        score=("score", "mean"),
    ).reset_index()
    table.insert(len(keys), "n", table["successes"] + table["timeouts"])
    n = table["n"].to_numpy(dtype=float)
    rate = np.divide(table["successes"].to_numpy(dtype=float), n, out=np.full(len(table), np.nan), where=n > 0)
    low, high = (np.where(n > 0, bound, np.nan) for bound in clopper_pearson(table["successes"], n, CONFIDENCE))
    return table.assign(rate=rate, low=low, high=high)


def _scores(episodes: pd.DataFrame) -> Floats:
    """Partial credit of each episode; NaN for errors, and in ledgers that tell of no goals."""
    if "goals" not in episodes:
        return np.full(len(episodes), np.nan)
    found = scores(
        episodes["outcome"] == "success",
        episodes["goals"].to_numpy(dtype=float, na_value=np.nan),
        episodes["goals_held_best"].to_numpy(dtype=float, na_value=np.nan),
        episodes["stage"],
    )
    return np.where(episodes["outcome"] == "error", np.nan, found)
