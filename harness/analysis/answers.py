"""Which policy is better, as far as a ledger tells: decided or not, and how many pairs would decide it."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from harness.analysis.paired.power import pairs_needed

ALPHA = 0.05
"""Two-sided level, after Holm's correction."""

SMALLEST = 0.01
"""A difference below this one is taken as none seen."""

MARGIN = 0.03
"""Difference that is asked for where none was seen: a gate's usual margin."""


def success_answers(paired: pd.DataFrame, controls: Collection[str]) -> pd.DataFrame:
    """Say of every pair of policies over all suites whether its episodes decide which is better.

    Args:
        paired: Rows of `paired_variants`.
        controls: Policies that are no contestants.

    Returns:
        Those rows between contestants, decided ones first, then the largest difference, with `decided`, `asked` (the
        difference that `needed` is about: the one seen, or `MARGIN` where none was) and `needed` (pairs that show it
        with 80 % power at 5 % over as many comparisons, Bonferroni's share of it each; missing where it is decided or
        beyond counting).
    """
    chosen = paired[paired["suite"].isna() & ~paired["policy_id"].isin(controls)]
    chosen = chosen[~chosen["base_policy_id"].isin(controls)]
    decided = chosen["p_holm"] < ALPHA
    size = chosen["difference"].abs()
    asked = size.where(size >= SMALLEST, MARGIN)
    spread = ((chosen["lost"] + chosen["gained"]) / chosen["n"]).clip(lower=0.01)
    needed = [
        None if done else pairs_needed(float(drop), float(flips), ALPHA / max(len(chosen), 1), sides=2)
        for done, drop, flips in zip(decided, asked, spread, strict=True)
    ]
    table = chosen.assign(decided=decided, asked=asked, needed=pd.array(needed, dtype="Int64"), _size=size)
    return table.sort_values(["decided", "_size"], ascending=False, kind="stable", ignore_index=True).drop(
        columns="_size"
    )


def latency_answers(latency: pd.DataFrame) -> pd.DataFrame:
    """Say of the decisions of each device which is fastest, and whether the intervals of the medians tell.

    Args:
        latency: Rows of `latency_by_component`.

    Returns:
        The e2e rows of each hardware with more than one configuration or NFE, fastest first, with `ratio` (its median
        over the fastest) and `decided` (its interval begins above the fastest one's end; false for the fastest).
    """
    rows = latency[latency["component"] == "e2e"].sort_values(["hardware", "median"], kind="stable")
    rows = rows[rows.groupby("hardware", dropna=False)["median"].transform("size") > 1]
    first = rows.groupby("hardware", dropna=False)[["median", "median_high"]].transform("first")
    return rows.assign(
        ratio=rows["median"] / first["median"], decided=rows["median_low"] > first["median_high"]
    ).reset_index(drop=True)


def worst_tasks(tasks: pd.DataFrame, controls: Collection[str]) -> pd.DataFrame:
    """Tasks of the contestants in which an episode failed, lowest rate first; ties by the upper bound.

    Args:
        tasks: Rows of `success_by_task`.
        controls: Policies that are no contestants.
    """
    failed = tasks[~tasks["policy_id"].isin(controls) & (tasks["successes"] < tasks["n"])]
    return failed.sort_values(["rate", "high"], kind="stable", ignore_index=True)
