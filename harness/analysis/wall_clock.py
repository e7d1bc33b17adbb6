"""Episodes on the wall clock against what virtual time predicted of them: outcomes, and decision by decision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.intervals import clopper_pearson
from harness.analysis.paired.statistics import PairCounts, difference_bounds
from harness.analysis.success.rates import CONFIDENCE

WALL, PREDICTION = "wall", "asynchronous"
"""The clock, and the one in virtual time that does the same with the delays of a source."""
CELL = ["policy_id", "nfe", "latency_source"]
COLUMNS = [
    *CELL,
    *("n", "pairs", "agree", "agreement", "agreement_low", "agreement_high", "lost", "gained"),
    *("difference", "difference_low", "difference_high", "same_trajectory"),
    *("decisions", "same_delay", "shorter", "longer", "predicted_ms", "delay_ms", "delay_ms_p99", "delay_ms_max"),
    *("steps", "overruns", "overrun_share"),
]


def wall_agreement(episodes: pd.DataFrame, decisions: pd.DataFrame) -> pd.DataFrame:
    """One row for each policy, NFE and source of delays that was run on the wall clock.

    Args:
        episodes: `Ledger.episodes`.
        decisions: `Ledger.decisions`.

    Returns:
        Columns `COLUMNS`. `pairs`: scored episodes that the clock `asynchronous` has too, with the same source.
        `agree` of them ended alike; `agreement`, Clopper-Pearson. `difference`: wall less virtual success, Tango's
        score interval. `same_trajectory`: share of pairs whose every joint position is equal. `decisions`: decisions
        of the pairs that both had; `same_delay`: share with the same delay in control steps; `shorter`, `longer`: of
        the others. `predicted_ms`: median that was predicted; `delay_ms`, `delay_ms_p99`, `delay_ms_max`: measured,
        over all decisions. `overrun_share`: of all control steps, those that took longer than their period.
    """
    scored = episodes[episodes["outcome"] != "error"]
    wall, virtual = scored[scored["clock"] == WALL], scored[scored["clock"] == PREDICTION]
    had, predicted = decisions[decisions["clock"] == WALL], decisions[decisions["clock"] == PREDICTION]
    key = [*CELL, "episode_key"]
    pairs = wall.merge(virtual, on=key, suffixes=("", "_virtual"))
    both = had.merge(predicted, on=[*key, "decision"], suffixes=("", "_virtual"))
    rows = []
    for cell, group in wall.groupby(CELL, dropna=False, sort=True):
        row: dict[str, Any] = dict(zip(CELL, cell, strict=True))
        row |= {"n": len(group), **_outcomes(_of(pairs, row)), **_delays(_of(had, row), _of(both, row))}
        known = group["overruns"].notna()
        steps, overruns = int(group.loc[known, "steps"].sum()), int(group.loc[known, "overruns"].sum())
        rows.append({**row, "steps": steps, "overruns": overruns, "overrun_share": overruns / steps if steps else None})
    return _typed(pd.DataFrame(rows, columns=COLUMNS))


def _of(frame: pd.DataFrame, cell: dict[str, Any]) -> pd.DataFrame:
    for name in CELL:
        here = frame[name]
        frame = frame[here.isna() if pd.isna(cell[name]) else (here == cell[name]).fillna(False).astype(bool)]
    return frame


def _outcomes(pairs: pd.DataFrame) -> dict[str, Any]:
    counts = PairCounts.of(pairs["outcome_virtual"] == "success", pairs["outcome"] == "success")
    if not counts.n:
        return {"pairs": 0}
    agree = counts.n - counts.discordant
    low, high = clopper_pearson(agree, counts.n, CONFIDENCE)
    difference_low, difference_high = difference_bounds(counts.lost, counts.gained, counts.n)
    return {
        "pairs": counts.n,
        "agree": agree,
        "agreement": agree / counts.n,
        "agreement_low": float(low),
        "agreement_high": float(high),
        "lost": counts.lost,
        "gained": counts.gained,
        "difference": counts.difference,
        "difference_low": float(difference_low),
        "difference_high": float(difference_high),
        "same_trajectory": float((pairs["trajectory_sha256"] == pairs["trajectory_sha256_virtual"]).mean()),
    }


def _delays(had: pd.DataFrame, both: pd.DataFrame) -> dict[str, Any]:
    ms = had["delay_ms"].dropna().to_numpy(dtype=float)
    found: dict[str, Any] = {"decisions": len(both)}
    if len(ms):
        found |= dict(zip(("delay_ms", "delay_ms_p99", "delay_ms_max"), np.quantile(ms, [0.5, 0.99, 1.0]), strict=True))
    if len(both):
        off = both["delay_steps"].to_numpy(dtype=float) - both["delay_steps_virtual"].to_numpy(dtype=float)
        found |= {"same_delay": (off == 0).mean(), "shorter": (off < 0).mean(), "longer": (off > 0).mean()}
        found["predicted_ms"] = float(np.median(both["delay_ms_virtual"].to_numpy(dtype=float)))
    return found


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    numbers = [name for name in COLUMNS if name not in CELL]
    return table.assign(**{name: pd.to_numeric(table[name]).astype("float64") for name in numbers}).astype(
        {"nfe": "Int32"}
    )
