"""Every episode of a ledger as one row of a list, failures first, with what the same episode was under others."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.analysis.success.rates import VARIANT
from harness.ledger import Ledger

MAX_DECISIONS = 20_000
"""Decisions that are told one by one, of the first episodes of the list."""

MAX_STEPS = 40_000
"""Control steps whose motion is told, of the first episodes of the list."""

_RANK = {"error": 1, "timeout": 0, "success": 2}

_KEYS = ["episode_key", *VARIANT]

TIMES = ("queue_ms", "infer_ms", "transport_ms")
"""Parts of a decision."""

MOTION = ("x_m", "y_m", "z_m", "gripper")
"""What is told of every control step."""


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
    rows = _of_interest(episodes).merge(ledger.decisions, on=_KEYS, how="inner")
    rows = rows.sort_values(["_place", "decision"], kind="stable")
    counted = rows.groupby("_place", sort=True)["decision"].size().cumsum()
    kept = set(counted[counted <= MAX_DECISIONS].index)
    groups: list[tuple[Any, pd.DataFrame]] = list(rows.groupby("_place", sort=True))
    return {int(place): group for place, group in groups if place in kept}


def episode_motion(ledger: Ledger, episodes: pd.DataFrame) -> dict[int, dict[str, list[float]]]:
    """Motion of the listed episodes that failed or flipped, up to `MAX_STEPS` control steps in all.

    Args:
        ledger: Whose motion.
        episodes: Rows of `episode_list`.

    Returns:
        Place in the list → `x_m`, `y_m`, `z_m` and `gripper`, one number per control step.
    """
    keys = [*_KEYS, "attempt"]
    rows = _of_interest(episodes, "attempt").merge(ledger.motion, on=keys, how="inner").drop_duplicates("_place")
    kept = rows[rows["x_m"].map(len).cumsum() <= MAX_STEPS]
    return {
        int(row["_place"]): {name: [float(value) for value in row[name]] for name in MOTION}
        for row in kept.to_dict("records")
    }


def _of_interest(episodes: pd.DataFrame, *more: str) -> pd.DataFrame:
    """Identities of those that failed or flipped, with their place in the list."""
    wanted = episodes[(episodes["outcome"] != "success") | episodes["flipped"]]
    # A row without a number has one missing value on both sides; merging treats those as equal.
    return wanted[[*_KEYS, *more]].assign(_place=wanted.index)
