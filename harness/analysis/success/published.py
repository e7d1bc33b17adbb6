"""Measured success beside every published row of the same model and suite: is it the published result?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from harness.analysis.intervals import rate_interval
from harness.analysis.predict.published import model_of, published_csv
from harness.analysis.success.rates import CONFIDENCE, success_by_suite

ALPHA = 1 - CONFIDENCE
PUBLISHED_KEYS = ("replan_interval", "max_steps", "settle_steps", "resolution")
"""Keys of a protocol's manifest that published rows state, where their source does."""
POWER = 0.8
BLIND = 0.25
"""Where only a drop of more than this is found with `POWER`, finding no difference says nothing."""

COLUMNS = [
    *("policy_id", "nfe", "suite", "successes", "n", "rate", "low", "high"),
    *("variant", "published_nfe", "published_rate", "published_n", "published_low", "published_high", "source"),
    *("p", "found_below", "verdict", "differences"),
]


def load_published_success() -> pd.DataFrame:
    """The shipped success rates: columns of `reports/published/success.csv`, whole numbers nullable.

    Raises:
        SpecError: The file is not there.
    """
    whole = ("nfe", "episodes", *PUBLISHED_KEYS)
    return published_csv("success.csv", dict.fromkeys(whole, "Int32"))


def beside_success(
    episodes: pd.DataFrame, manifests: Mapping[str, Mapping[str, Any]], published: pd.DataFrame
) -> pd.DataFrame:
    """Compare success with each published row of the same model and suite.

    Args:
        episodes: `Ledger.episodes`.
        manifests: `Ledger.manifests`, which tell what differs from the published protocol.
        published: From `load_published_success`.

    Returns:
        One row per measured (policy, NFE, suite) and published row, columns `COLUMNS`. Rates are fractions with
        Clopper-Pearson bounds, 95 %; `published_n` is missing where the source states no episodes: its rate is then
        taken as exact. `p`: Fisher's exact test, two-sided (binomial where the published rate is exact). `found_below`:
        a true rate of this or less would have been called worse in 80 of 100 evaluations of `n` episodes; missing
        where none would. `differences`: keys of the protocol that differ, or that one side does not state.
    """
    measured = success_by_suite(episodes)
    # A published rate is of a simulation that waits for the policy.
    measured = measured[(measured["n"] > 0) & (measured["clock"].fillna("synchronous") == "synchronous")]
    models = published["model"].map(model_of)
    rows = []
    for own in measured.to_dict("records"):
        same = published[(models == model_of(str(own["policy_id"]))) & (published["suite"] == own["suite"])]
        manifest = manifests.get(str(own["suite"]), {})
        rows += [_compared({str(k): v for k, v in own.items()}, row, manifest) for row in same.to_dict("records")]
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        {"nfe": "Int32", "published_nfe": "Int32", "published_n": "Int32"}
    )


def _compared(own: dict[str, Any], row: dict[Any, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    k, n, rate = int(own["successes"]), int(own["n"]), float(row["success_percent"]) / 100
    episodes = None if pd.isna(row["episodes"]) else int(row["episodes"])
    solved = None if episodes is None else round(rate * episodes)
    bounds = (rate, rate) if episodes is None or solved is None else rate_interval(solved, episodes, CONFIDENCE)
    p = _p(k, n, rate, solved, episodes)
    found_below = _found_below(n, rate, solved, episodes)
    if p <= ALPHA:
        verdict = "better" if k / n > rate else "worse"
    else:
        verdict = "consistent" if found_below is not None and rate - found_below <= BLIND else "cannot tell at this n"
    return {
        **{name: own[name] for name in ("policy_id", "nfe", "suite", "successes", "n", "rate", "low", "high")},
        "variant": row["checkpoint_or_variant"],
        "published_nfe": row["nfe"],
        "published_rate": rate,
        "published_n": row["episodes"],
        "published_low": bounds[0],
        "published_high": bounds[1],
        "source": row["source"],
        "p": p,
        "found_below": found_below,
        "verdict": verdict,
        "differences": _differences(own, row, manifest),
    }


def _p(k: int, n: int, rate: float, solved: int | None, episodes: int | None) -> float:
    """Two-sided p of "the same rate"."""
    if solved is None or episodes is None:
        return float(stats.binomtest(k, n, rate).pvalue)
    return float(stats.fisher_exact([[k, n - k], [solved, episodes - solved]]).pvalue)


def _found_below(n: int, rate: float, solved: int | None, episodes: int | None) -> float | None:
    """Largest true rate that `n` episodes call worse with probability `POWER`; None where even n failures do not."""
    low, high = -1, int(np.floor(rate * n))
    while low < high:  # the largest count that is called worse; fewer successes are worse still
        middle = (low + high + 1) // 2
        if middle / n < rate and _p(middle, n, rate, solved, episodes) <= ALPHA:
            low = middle
        else:
            high = middle - 1
    # P(X <= low) = POWER, X binomial: the distribution function in closed form.
    return float(stats.beta.ppf(1 - POWER, low + 1, n - low)) if low >= 0 else None


def _differences(own: dict[str, Any], row: dict[Any, Any], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys in which the protocols differ, with both values; what one side does not state is said too."""
    pairs = {"nfe": (own["nfe"], row["nfe"]), **{key: (manifest.get(key), row[key]) for key in PUBLISHED_KEYS}}
    told = []
    for key, (mine, theirs) in pairs.items():
        known = [value is not None and not pd.isna(value) for value in (mine, theirs)]
        if not any(known):
            continue
        mine, theirs = (
            value if is_known else "not stated" for value, is_known in zip((mine, theirs), known, strict=True)
        )
        if str(mine) != str(theirs):
            told.append(f"{key} {mine} against {theirs}")
    silent = [key for key, (_, theirs) in pairs.items() if pd.isna(theirs) and manifest.get(key) is not None]
    stated = [text for text in told if not text.endswith("not stated")]
    return (*stated, *([f"published without {', '.join(silent)}"] if silent else []))
