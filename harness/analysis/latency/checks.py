"""What has to be known beside a latency: energy, compile time, throttling, company, and how far the answers are off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analysis.latency.energy import energy_bounds, energy_of
from harness.analysis.latency.percentiles import CONFIGURATION
from harness.spec.likeness import is_far as answers_are_far

_KEYS = [*CONFIGURATION, "nfe"]

_COLUMNS = [
    *_KEYS,
    *("variant", "n", "median", "cool_n", "cool_median", "energy_j", "energy_low", "energy_high"),
    *("compile_s", "parts", "shared"),
    *("reference", "cosine", "max_abs", "share", "far"),
]


def decision_checks(latency: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Check every probed configuration.

    Args:
        latency: `Ledger.latency`.
        differences: `Ledger.differences`.

    Returns:
        One row per (hardware, policy_id, dtype, compile, batch_size, nfe): `variant`; `n` and `median` (ms) over all
        end-to-end samples; `cool_n` and `cool_median` over those that are not known to be throttled; `energy_j` (mean
        energy of one decision, joules), `energy_low` and `energy_high` (95 %, over launches; NaN with one);
        `compile_s`; `parts` (median over decisions of the sum of components over the end-to-end time just before; NaN
        without components); `shared` (whether any sample was); and, where it was compared, `reference`, `cosine`,
        `max_abs`, `share` (of what another observation changes) and `far`.
    """
    compared = _compared(differences)
    rows = [
        dict(zip(_KEYS, key, strict=True))
        | _check(whole)
        | {"parts": parts_of_whole(group)}
        | compared.get(_plain(key), {})
        for key, group in latency.groupby(_KEYS, dropna=False, sort=True)
        if len(whole := group[group["component"] == "e2e"])
    ]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.assign(nfe=table["nfe"].astype("Int32"))


_COMPARED = ("reference", "cosine", "max_abs", "share", "far")


def is_far(differences: pd.DataFrame) -> pd.Series:
    """Which variants answer so differently that their latency is another policy's; unknown counts as far."""
    columns = (differences[name] for name in ("cosine", "rms", "observation_rms"))
    found = [answers_are_far(*map(float, row)) for row in zip(*columns, strict=True)]
    return pd.Series(found, index=differences.index, dtype=bool)


def parts_of_whole(latency: pd.DataFrame) -> float:
    """Sum of a decision's components over the end-to-end time of the decision before it: the median; NaN without."""
    place = ["run_id", "node_id"]
    whole = latency[latency["component"] == "e2e"]
    sums = latency[latency["component"] != "e2e"].groupby([*place, "sample"], dropna=False)["latency_ms"].sum()
    inside = sums.reset_index(name="inside_ms")
    pairs = inside.assign(sample=inside["sample"] - 1).merge(whole, on=[*place, "sample"])
    pairs = pairs[pairs["latency_ms"] > 0]
    return float((pairs["inside_ms"] / pairs["latency_ms"]).median()) if len(pairs) else float("nan")


def _check(group: pd.DataFrame) -> dict[str, object]:
    cool = group[~group["throttled"].fillna(False).astype(bool)]
    shared = group["shared"].dropna()
    variants = group["variant"].dropna()
    bounds = energy_bounds(group)
    return {
        "variant": variants.iloc[0] if len(variants) else "",
        "n": len(group),
        "median": group["latency_ms"].median(),
        "cool_n": len(cool),
        "cool_median": cool["latency_ms"].median() if len(cool) else np.nan,
        "energy_j": energy_of(group),
        "energy_low": np.nan if bounds is None else bounds.low,
        "energy_high": np.nan if bounds is None else bounds.high,
        "compile_s": group["compile_s"].max(),
        "shared": bool(shared.any()) if len(shared) else pd.NA,
    }


def _compared(differences: pd.DataFrame) -> dict[tuple[object, ...], dict[str, object]]:
    """The last comparison of each configuration."""
    scaled = differences.assign(
        share=(differences["rms"] / differences["observation_rms"]).where(differences["observation_rms"] > 0),
        far=is_far(differences),
    )
    return {
        _plain(tuple(row[name] for name in _KEYS)): {str(name): row[name] for name in _COMPARED}
        for row in scaled.to_dict("records")
    }


def _plain(key: Sequence[object]) -> tuple[object, ...]:
    """A key whose unknown parts are all None, so that keys of two tables meet."""
    return tuple(None if pd.isna(part) else part for part in key)  # type: ignore[call-overload]
