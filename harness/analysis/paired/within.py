"""Every two policies of one ledger, or of several read as one, on the episodes that both ran."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.paired.statistics import PairCounts, difference_bounds, holm, mcnemar_exact
from harness.analysis.success.rates import VARIANT

COLUMNS = [
    *("base_policy_id", "base_nfe", "policy_id", "nfe", "suite", "n", "both", "lost", "gained", "neither"),
    *("difference", "low", "high", "p", "p_holm", "clock", "latency_source"),
]


def paired_variants(episodes: pd.DataFrame) -> pd.DataFrame:
    """Compare every two policies (at their NFE) on their common episodes, errors left out, each clock by itself.

    Rows of two clocks, or of two sources of delays, are no pair here: `harness.analysis.delay` compares those.

    Args:
        episodes: `Ledger.episodes`: one row per episode.

    Returns:
        One row per pair of variants, and per suite where they share several (`suite` is missing in the row over all),
        columns `COLUMNS`: `n` pairs with a result on both sides; `difference` is the rate of `policy_id` minus that of
        `base_policy_id`, `low` and `high` its 95 % bounds (Tango, corrected); `p` exact McNemar, two-sided; `p_holm` is
        adjusted over the pairs of variants (rows over all suites), or over all rows of single suites. Pairs that share
        no episode have no row.
    """
    variants, outcomes, suites = _outcomes(episodes)
    rows = [
        {
            **dict(zip(("base_policy_id", "base_nfe"), variants[i][:2], strict=True)),
            **dict(zip(VARIANT, variants[j], strict=True)),
            **row,
        }
        for i, j in combinations(range(len(variants)), 2)
        if variants[i][2:] == variants[j][2:]
        for row in _pair(outcomes[:, i], outcomes[:, j], suites)
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    low, high = difference_bounds(table["lost"], table["gained"], table["n"])
    table = table.assign(low=low, high=high, p=mcnemar_exact(table["lost"].astype(int), table["gained"].astype(int)))
    whole = table["suite"].isna()
    for part in (whole, ~whole):
        table.loc[part, "p_holm"] = holm(table.loc[part, "p"].to_numpy(dtype=float))
    return table.astype({"base_nfe": "Int32", "nfe": "Int32", "p_holm": "float64", "difference": "float64"})


def _outcomes(episodes: pd.DataFrame) -> tuple[list[tuple[Any, ...]], Any, Any]:
    """Variants; outcomes of shape (keys, variants): 1, 0, or NaN where there is no result; and each key's suite."""
    scored = episodes[episodes["outcome"].isin(["success", "timeout"]) & episodes["episode_key"].notna()]
    groups = scored.groupby(VARIANT, dropna=False, sort=True)
    keys: list[Any] = list(groups.groups)
    variants = [tuple(None if pd.isna(part) else part for part in key) for key in keys]
    cells = scored.assign(_variant=groups.ngroup(), _solved=(scored["outcome"] == "success").astype(float))
    cells = cells.drop_duplicates(["episode_key", "_variant"], keep="last")
    table = cells.pivot(index="episode_key", columns="_variant", values="_solved")
    suites = cells.drop_duplicates("episode_key").set_index("episode_key")["suite"].reindex(table.index)
    return variants, table.to_numpy(), suites.to_numpy(dtype=object)


def _pair(base: Any, candidate: Any, suites: Any) -> Iterator[dict[str, Any]]:
    shared = ~np.isnan(base) & ~np.isnan(candidate)
    if not shared.any():
        return
    old, new, place = base[shared] == 1, candidate[shared] == 1, suites[shared]
    yield _counted(None, PairCounts.of(old, new))
    names = sorted({name for name in place if isinstance(name, str)})
    for name in names if len(names) > 1 else ():
        chosen = place == name
        yield _counted(name, PairCounts.of(old[chosen], new[chosen]))


def _counted(suite: str | None, counts: PairCounts) -> dict[str, Any]:
    cells = {name: getattr(counts, name) for name in ("n", "both", "lost", "gained", "neither", "difference")}
    return {"suite": suite, **cells}
