"""What each policy costs and gives: weights, memory, latency, success, its drop when perturbed; and who beats whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.intervals import rate_interval
from harness.analysis.success.controls import Role
from harness.spec.timing import SYNCHRONOUS

COLUMNS = [
    *("policy_id", "nfe", "hardware", "dtype", "compile", "weights_bytes", "memory_bytes", "median", "low", "high"),
    *("successes", "n", "rate", "rate_low", "rate_high", "suites", "perturbed_rate", "perturbed_n", "drop"),
    *("place", "dominated_by", "dominated_by_nfe", "difference", "difference_low", "difference_high", "pairs", "p"),
    "faster",
]
_PLACES = COLUMNS[COLUMNS.index("place") :]
_VARIANT = ["policy_id", "nfe"]
PARTS = ("vision", "prefix", "denoise_step")


def tiers(
    latency: pd.DataFrame,
    counts: pd.DataFrame,
    success: pd.DataFrame,
    paired: pd.DataFrame,
    roles: Mapping[str, Role],
) -> pd.DataFrame:
    """Set cost beside success, and mark what another policy beats in both.

    Args:
        latency: `Summary.latency`.
        counts: `Ledger.counts`.
        success: `Summary.success`.
        paired: `Summary.paired`.
        roles: `Summary.roles`; controls are left out.

    Returns:
        One row per policy, NFE and device that was timed at batch 1 and evaluated under the synchronous clock, columns
        `COLUMNS`, fastest first. Latency is of its fastest configuration, ms. A suite whose name continues that of
        another one in the ledger is a perturbation of it: `rate` is over the plain suites, `perturbed_rate` over the
        others, and `drop` compares those with their own plain suites. `place`: "front"; "dominated" where a policy that
        takes no more time solves more of the same episodes by more than chance (95 % bounds, Tango, above 0);
        "behind" where it solves as many or more, but no more than chance may give. The evidence stands beside.
    """
    scored = success[(success["clock"].fillna(SYNCHRONOUS) == SYNCHRONOUS) & ~success["policy_id"].isin(list(roles))]
    timed = latency[(latency["component"] == "e2e") & (latency["batch_size"].fillna(1) == 1)]
    rows = []
    for key, suites in scored[scored["n"] > 0].groupby(_VARIANT, dropna=False, sort=False):
        variant = dict(zip(_VARIANT, key, strict=True))
        own = timed[(timed["policy_id"] == variant["policy_id"]) & _same(timed["nfe"], variant["nfe"])]
        for hardware, configurations in own.groupby("hardware", dropna=False):
            fastest = configurations.sort_values("median").iloc[0]
            rows.append({**variant, "hardware": hardware, **_cost(fastest, counts), **_given(suites)})
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(_PLACES, object))
    for _, device in table.groupby("hardware", dropna=False):
        for place, row in device.iterrows():
            found = _beaten(row, device, paired)
            table.loc[place, list(found)] = list(found.values())
    table = table.sort_values(["hardware", "median"], ignore_index=True)
    return table.astype({"nfe": "Int32", "dominated_by_nfe": "Int32"})


def _same(column: pd.Series[Any], value: Any) -> pd.Series[Any]:
    return column.isna() if pd.isna(value) else (column == value).fillna(False)


def _cost(fastest: pd.Series[Any], counts: pd.DataFrame) -> dict[str, Any]:
    """Latency, memory and weights of a configuration."""
    own = counts
    for name in ("policy_id", "dtype", "hardware"):
        own = own[_same(own[name], fastest[name])]
    # A decision reads a step's weights once a step: what counts is each component's once.
    parts = own[own["component"].isin(PARTS)].dropna(subset=["parameter_bytes"]).drop_duplicates("component")
    whole = own.loc[own["component"] == "e2e", "parameter_bytes"].dropna()
    weights = parts["parameter_bytes"].sum() if len(parts) else whole.min() if len(whole) else None
    return {
        **{name: fastest[name] for name in ("dtype", "compile", "memory_bytes", "median")},
        "low": fastest["median_low"],
        "high": fastest["median_high"],
        "weights_bytes": None if weights is None else float(weights),
    }


def _given(suites: pd.DataFrame) -> dict[str, Any]:
    """Success over plain suites, and what perturbed ones lose against theirs."""
    names = list(suites["suite"].dropna())
    base = {name: min((o for o in names if name == o or name.startswith(f"{o}_")), key=len) for name in names}
    is_plain = suites["suite"].map(lambda name: base.get(name, name) == name)
    plain, changed = suites[is_plain], suites[~is_plain]
    k, n = int(plain["successes"].sum()), int(plain["n"].sum())
    bounds = rate_interval(k, n)
    told: dict[str, Any] = {
        **{"successes": k, "n": n, "rate": k / n, "rate_low": bounds.low, "rate_high": bounds.high},
        "suites": "; ".join(f"{row['suite']} {100 * row['rate']:.1f} %" for row in plain.to_dict("records")),
    }
    if len(changed):
        by_suite = plain.set_index("suite")["rate"]
        expected = changed["suite"].map(lambda name: float(by_suite[base[name]]))
        count = changed["n"].astype(float)
        rate = float(changed["successes"].sum() / count.sum())
        told |= {"perturbed_rate": rate, "perturbed_n": int(count.sum())}
        told["drop"] = float((expected * count).sum() / count.sum()) - rate
    return told


def _beaten(row: pd.Series[Any], device: pd.DataFrame, paired: pd.DataFrame) -> dict[str, Any]:
    """The place of a policy on its device, with the strongest evidence against it."""
    found: list[dict[str, Any]] = []
    for _, other in device.iterrows():
        if other["median"] > row["median"] or (other["policy_id"] == row["policy_id"] and _equal(other, row)):
            continue
        evidence = _evidence(row, other, paired)
        if evidence is not None and evidence["difference"] >= 0:
            told = {"dominated_by": other["policy_id"], "dominated_by_nfe": other["nfe"], **evidence}
            told["place"] = "dominated" if evidence["difference_low"] > 0 else "behind"
            found.append({**told, "faster": float(row["median"] / other["median"])})
    return max(found, key=lambda told: float(told["difference_low"]), default={"place": "front"})


def _equal(one: pd.Series[Any], other: pd.Series[Any]) -> bool:
    return bool(one["nfe"] == other["nfe"]) if pd.notna(one["nfe"]) and pd.notna(other["nfe"]) else True


def _evidence(row: pd.Series[Any], other: pd.Series[Any], paired: pd.DataFrame) -> dict[str, Any] | None:
    """Success of the other less that of the row's policy, over the episodes that both ran."""
    whole = paired[paired["suite"].isna() & (paired["clock"].fillna(SYNCHRONOUS) == SYNCHRONOUS)]
    for base, candidate, sign in ((row, other, 1), (other, row, -1)):
        chosen = whole[
            (whole["base_policy_id"] == base["policy_id"])
            & _same(whole["base_nfe"], base["nfe"])
            & (whole["policy_id"] == candidate["policy_id"])
            & _same(whole["nfe"], candidate["nfe"])
        ]
        if len(chosen):
            pair = chosen.iloc[0]
            low, high = sorted((sign * float(pair["low"]), sign * float(pair["high"])))
            bounds = {"difference_low": low, "difference_high": high}
            return {
                "difference": sign * float(pair["difference"]),
                **bounds,
                "pairs": int(pair["n"]),
                "p": pair["p_holm"],
            }
    return None
