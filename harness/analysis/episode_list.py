"""Every episode of a ledger as one row of a list, failures first, with what the same episode was under others."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.analysis.success.rates import VARIANT
from harness.ledger import Ledger

MAX_DECISIONS = 20_000
"""Decisions that are told one by one, of the first episodes of the list."""

_RANK = {"error": 1, "timeout": 0, "success": 2}

TIMES = ("queue_ms", "infer_ms", "transport_ms")
"""Parts of a decision."""


def episode_list(ledger: Ledger, controls: frozenset[str]) -> pd.DataFrame:
    """List the episodes: failures of contestants, errors, successes; controls last.

    Args:
        ledger: Whose episodes.
        controls: Policies that are no contestants.

    Returns:
        `Ledger.episodes` in that order with `flipped`: whether another contestant under the same clock ended the same
        episode otherwise (success against timeout).
    """
    episodes = ledger.episodes
    control = episodes["policy_id"].isin(controls)
    scored = episodes[episodes["outcome"].isin(["success", "timeout"]) & ~control]
    kinds = scored.groupby(["episode_key", "clock", "latency_source"], dropna=False)["outcome"].transform("nunique")
    flipped = pd.Series(False, index=episodes.index)
    flipped.loc[scored.index] = kinds > 1
    order = pd.DataFrame(
        {"control": control, "rank": episodes["outcome"].map(_RANK), "flipped": ~flipped, "task": episodes["task_id"]}
    ).sort_values(["control", "rank", "flipped", "task"], kind="stable")
    return episodes.assign(flipped=flipped, control=control).loc[order.index].reset_index(drop=True)


def episode_decisions(ledger: Ledger, episodes: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Decisions of the listed episodes that failed or flipped, up to `MAX_DECISIONS` in all.

    Args:
        ledger: Whose decisions.
        episodes: Rows of `episode_list`.

    Returns:
        Place in the list → rows of `Ledger.decisions` in their order.
    """
    wanted = episodes[(episodes["outcome"] != "success") | episodes["flipped"]]
    # A row without a number has one missing value on both sides; merging treats those as equal.
    keys = ["episode_key", *VARIANT]
    places = wanted[keys].assign(_place=wanted.index)
    rows = places.merge(ledger.decisions, on=keys, how="inner").sort_values(["_place", "decision"], kind="stable")
    counted = rows.groupby("_place", sort=True)["decision"].size().cumsum()
    kept = set(counted[counted <= MAX_DECISIONS].index)
    groups: list[tuple[Any, pd.DataFrame]] = list(rows.groupby("_place", sort=True))
    return {int(place): group for place, group in groups if place in kept}
