"""Success under the latency of devices: each clock and source of delays beside the synchronous run of its episodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.intervals import clopper_pearson
from harness.analysis.laws import t_isf
from harness.analysis.paired.statistics import PairCounts, difference_bounds, holm, mcnemar_exact
from harness.analysis.success.rates import CONFIDENCE, VARIANT
from harness.spec.timing import SYNCHRONOUS

COLUMNS = [
    *VARIANT,
    *(
        "device",
        "band",
        "timing_of",
        "suite",
        "n",
        "successes",
        "errors",
        "rate",
        "low",
        "high",
        "pairs",
        "lost",
        "gained",
    ),
    *("difference", "difference_low", "difference_high", "p", "p_holm", "delay_steps", "delay_steps_max", "delay_ms"),
    *("completion_s", "stale_share", "control_hz", "hold_s", "jerk_m_s3"),
    *("joules_per_success", "joules_low", "joules_high", "reason"),
]


def device_cells(episodes: pd.DataFrame, decisions: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each policy, NFE, clock, source of delays and suite.

    Args:
        episodes: `Ledger.episodes`.
        decisions: `Ledger.decisions`.
        runs: `Ledger.runs`, whose `timing` says which device a source stands for, and which cells were left out.

    Returns:
        Columns `COLUMNS`. `rate`, `low`, `high`: success of scored episodes, Clopper-Pearson. `difference` and its
        bounds: less the success of the synchronous run of the same episodes, `pairs` of them, Tango's score interval;
        `p` exact McNemar, `p_holm` adjusted over the table. `delay_steps`: median over decisions. `completion_s`:
        median simulated time of successes. `stale_share`: steps that executed an old chunk during a decision.
        `control_hz`: actions of the policy executed a second of simulated time. `hold_s`: mean time that an episode
        held. `jerk_m_s3`: median over episodes. `joules_per_success`: all energy over the number of successes,
        `joules_low` and `joules_high` its 95 % bounds over episodes (a ratio of two means, Student's t). A cell that
        was left out has only `reason` and its least `delay_steps`.
    """
    facts, left_out = _recorded(runs)
    timed = episodes["clock"] != SYNCHRONOUS
    delays = _delays(decisions)
    base = _solved(episodes[~timed])
    rows = []
    for key, group in episodes.groupby([*VARIANT, "suite"], dropna=False, sort=True):
        *variant, suite = (None if pd.isna(part) else part for part in _parts(key))
        cell = dict(zip(VARIANT, variant, strict=True))
        row = {**cell, **_told(facts, cell), "suite": suite, **_counted(group), **_against(group, base, cell)}
        rows.append({**row, **_moved(group), **delays.get(tuple(variant), {})})
    ran = {tuple(row[name] for name in VARIANT) for row in rows}
    for cell in left_out:
        if tuple(cell[name] for name in VARIANT) not in ran:
            rows.append({**cell, **_told(facts, cell), "n": 0})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return _bounded(table)


def rank_changes(cells: pd.DataFrame) -> list[str]:
    """Sentences on devices under which the better of two NFE is another than in the synchronous run.

    Args:
        cells: From `device_cells`.
    """
    from scipy.stats import fisher_exact  # half a second, for those who ask

    said = []
    for (policy, suite), group in cells[cells["n"] > 0].groupby(["policy_id", "suite"], dropna=False):
        plain = group[group["clock"] == SYNCHRONOUS].set_index("nfe")["rate"].dropna()
        timed = group[group["clock"] != SYNCHRONOUS]
        for (clock, source), cell in timed.groupby(["clock", "latency_source"], dropna=False, sort=False):
            rates = cell.set_index("nfe")["rate"].dropna()
            both = [nfe for nfe in plain.index if nfe in rates.index]
            for i, one in enumerate(both):
                for other in both[i + 1 :]:
                    before, after = plain[one] - plain[other], rates[one] - rates[other]
                    if before * after < 0 or (before == 0) != (after == 0):
                        counts = cell.set_index("nfe").loc[[one, other], ["successes", "n"]].to_numpy(dtype=np.int64)
                        p = fisher_exact([(solved, n - solved) for solved, n in counts]).pvalue
                        said.append(
                            f"{policy} on {suite}: NFE {one} against NFE {other} is {100 * before:+.1f} points in the "
                            f"synchronous run and {100 * after:+.1f} under {clock}, {source} (p {p:.2g}, Fisher's "
                            "exact test)."
                        )
    return said


def _parts(key: Any) -> list[Any]:
    return list(key)


def _told(facts: Mapping[str, Mapping[str, Any]], cell: Mapping[str, Any]) -> dict[str, Any]:
    told = facts.get(str(cell["latency_source"]), {})
    return {name: told.get(name) for name in ("device", "band", "timing_of")}


def _recorded(runs: pd.DataFrame) -> tuple[dict[str, Mapping[str, Any]], list[dict[str, Any]]]:
    facts: dict[str, Mapping[str, Any]] = {}
    left_out: dict[tuple[Any, ...], dict[str, Any]] = {}
    for text in runs["timing"].dropna():
        record = json.loads(text)
        facts |= record.get("sources", {})
        for cell in record.get("left_out", []):
            left_out[tuple(cell.get(name) for name in VARIANT)] = cell
    return facts, list(left_out.values())


def _delays(decisions: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, float]]:
    found = {}
    for key, group in decisions.groupby(VARIANT, dropna=False):
        steps = group["delay_steps"].dropna().astype(float)
        if len(steps):
            cell = tuple(None if pd.isna(part) else part for part in _parts(key))
            found[cell] = {
                "delay_steps": float(steps.median()),
                "delay_steps_max": float(steps.max()),
                "delay_ms": float(group["delay_ms"].astype("Float64").median(skipna=True))
                if group["delay_ms"].notna().any()
                else float("nan"),
            }
    return found


def _solved(episodes: pd.DataFrame) -> pd.DataFrame:
    scored = episodes[episodes["outcome"] != "error"]
    return scored.assign(solved=scored["outcome"] == "success")[["policy_id", "nfe", "episode_key", "solved"]]


def _counted(group: pd.DataFrame) -> dict[str, Any]:
    outcome = group["outcome"]
    return {
        "n": int((outcome != "error").sum()),
        "successes": int((outcome == "success").sum()),
        "errors": int((outcome == "error").sum()),
    }


def _against(group: pd.DataFrame, base: pd.DataFrame, cell: Mapping[str, Any]) -> dict[str, Any]:
    """Pairs with the synchronous run of the same policy at the same NFE."""
    if cell["clock"] == SYNCHRONOUS:
        return {}
    own = base[base["policy_id"] == cell["policy_id"]]
    own = own[own["nfe"].isna()] if cell["nfe"] is None else own[(own["nfe"] == cell["nfe"]).fillna(False)]
    both = _solved(group).merge(own, on="episode_key", suffixes=("", "_base"))
    if both.empty:
        return {}
    counts = PairCounts.of(both["solved_base"].to_numpy(dtype=bool), both["solved"].to_numpy(dtype=bool))
    return {"pairs": counts.n, "lost": counts.lost, "gained": counts.gained, "difference": counts.difference}


def _moved(group: pd.DataFrame) -> dict[str, float]:
    """How the robot moved."""
    known = group[(group["outcome"] != "error") & group["hold_steps"].notna() & (group["steps"] > 0)]
    solved = known[known["outcome"] == "success"]
    if known.empty:
        return {}
    steps = known["steps"].to_numpy(dtype=float)
    held, seconds = known["hold_steps"].to_numpy(dtype=float), known["sim_s"].to_numpy(dtype=float)
    measured = len(solved) > 0 and bool(known["energy_j"].notna().all())
    joules = float(known["energy_j"].sum() / len(solved)) if measured else float("nan")
    half = _ratio_half(known["energy_j"], known["outcome"] == "success") if measured else float("nan")
    return {
        "completion_s": float(solved["sim_s"].median()) if len(solved) else float("nan"),
        "stale_share": float(known["stale_steps"].sum() / steps.sum()),
        "control_hz": float((steps - held).sum() / seconds.sum()),
        "hold_s": float((held / steps * seconds).mean()),
        "jerk_m_s3": float(known["jerk_m_s3"].median()) if known["jerk_m_s3"].notna().any() else float("nan"),
        "joules_per_success": joules,
        "joules_low": max(joules - half, 0.0) if measured else float("nan"),
        "joules_high": joules + half,
    }


def _ratio_half(above: pd.Series[Any], below: pd.Series[Any]) -> float:
    """Half the interval of a sum over a sum, by each episode's residual (Cochran, Sampling Techniques, chapter 6)."""
    one, other = above.to_numpy(dtype=float), below.to_numpy(dtype=float)
    n = len(one)
    if n < 2:
        return float("nan")
    residuals = one - one.sum() / other.sum() * other
    return float(t_isf((1 - CONFIDENCE) / 2, n - 1) * residuals.std(ddof=1) * np.sqrt(n) / other.sum())


def _bounded(table: pd.DataFrame) -> pd.DataFrame:
    """Add rates, intervals and tests."""
    numbers = ("n", "successes", "errors", "pairs", "lost", "gained")
    table = table.assign(**{name: pd.to_numeric(table[name]).astype("float64") for name in numbers})
    n = table["n"].to_numpy()
    some = n > 0
    low, high = clopper_pearson(table["successes"].fillna(0.0), np.where(some, n, 1.0), CONFIDENCE)
    rate = np.divide(table["successes"].to_numpy(), n, out=np.full(len(n), np.nan), where=some)
    table = table.assign(rate=rate, low=np.where(some, low, np.nan), high=np.where(some, high, np.nan))
    paired = table["pairs"].notna().to_numpy()
    columns = {name: np.full(len(table), np.nan) for name in ("difference_low", "difference_high", "p", "p_holm")}
    if paired.any():
        chosen = table[paired]
        bounds = difference_bounds(chosen["lost"], chosen["gained"], chosen["pairs"])
        columns["difference_low"][paired], columns["difference_high"][paired] = bounds
        columns["p"][paired] = mcnemar_exact(chosen["lost"].astype(int), chosen["gained"].astype(int))
        columns["p_holm"][paired] = holm(columns["p"][paired])
    rest = [name for name in COLUMNS if name not in (*VARIANT, "device", "band", "timing_of", "suite", "reason")]
    table = table.assign(**columns)
    return table.assign(**{name: pd.to_numeric(table[name]).astype("float64") for name in rest}).astype(
        {"nfe": "Int32"}
    )
