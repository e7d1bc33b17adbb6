"""What a perturbation costs: success on a perturbed suite against the base suite, by task and by perturbation.

LIBERO-PRO keeps the tasks and init states' numbers of the suite that it perturbs, so an episode has a partner: the same
policy, task, init state and trial, unperturbed. Only pairs with a result on both sides count, and their difference is
what is shown. LIBERO-Plus has other init states: its variants are set beside their base task, unpaired, and only the
rate has an interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from harness.analysis.intervals import rate_interval
from harness.analysis.paired.statistics import PairCounts, difference_interval, holm, mcnemar_exact
from harness.analysis.success.rates import VARIANT
from harness.spec.perturbations import base_task, perturbation

COLUMNS = [
    *VARIANT,
    *("base_suite", "perturbation", "task", "n", "base_rate", "rate", "rate_low", "rate_high"),
    *("lost", "gained", "difference", "low", "high", "p", "p_holm"),
]
_EPISODE = ["task", "init_state_id", "trial"]


def robustness(episodes: pd.DataFrame, categories: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Compare perturbed suites and tasks with what they perturb.

    Args:
        episodes: `Ledger.episodes`.
        categories: Name of a LIBERO-Plus variant → category, from its classification; without it the suffix of its
            name says what it can.

    Returns:
        One row per variant, base suite and perturbation (`task` missing), and one per task of it, columns `COLUMNS`:
        `n` pairs, or for LIBERO-Plus variants; `difference` is the perturbed rate minus the base rate, with 95 % bounds
        (Tango, corrected) where episodes pair; `p` exact McNemar, two-sided; `p_holm` adjusted over the perturbations
        of the table, or over its rows of single tasks. Where nothing can be compared there is no row.
    """
    scored = episodes[episodes["outcome"].isin(["success", "timeout"])]
    rows: list[dict[str, Any]] = []
    for key, own in scored.groupby(VARIANT, dropna=False, sort=True):
        variant = dict(zip(VARIANT, key, strict=True))
        rows += [{**variant, **row} for row in (*_paired(own), *_beside(own, categories or {}))]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for whole in (True, False):
        part = (table["task"].isna() == whole) & table["p"].notna()
        table.loc[part, "p_holm"] = holm(table.loc[part, "p"].to_numpy(dtype=float))
    return table.astype({"nfe": "Int32", **dict.fromkeys(("lost", "gained"), "Int64"), "p_holm": "float64"})


def _paired(own: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """LIBERO-PRO: suites beside the one that they perturb."""
    for suite in sorted(name for name in own["suite"].dropna().unique() if perturbation(name)):
        base, what = perturbation(suite) or ("", "")
        sides = [own[own["suite"] == name].drop_duplicates(_EPISODE, keep="last") for name in (base, suite)]
        pairs = sides[0].merge(sides[1], on=_EPISODE, suffixes=("_base", ""))
        told = {"base_suite": base, "perturbation": what}
        if len(pairs):
            yield {**told, "task": None, **_counted(pairs)}
            for task, of_task in pairs.groupby("task", sort=False):
                yield {**told, "task": task, **_counted(of_task)}


def _counted(pairs: pd.DataFrame) -> dict[str, Any]:
    counts = PairCounts.of(pairs["outcome_base"] == "success", pairs["outcome"] == "success")
    bounds, rate = difference_interval(counts), rate_interval(counts.both + counts.gained, counts.n)
    return {
        "n": counts.n,
        "base_rate": (counts.both + counts.lost) / counts.n,
        "rate": (counts.both + counts.gained) / counts.n,
        "rate_low": rate.low,
        "rate_high": rate.high,
        "lost": counts.lost,
        "gained": counts.gained,
        "difference": counts.difference,
        "low": bounds.low,
        "high": bounds.high,
        "p": float(mcnemar_exact(counts.lost, counts.gained)),
    }


def _beside(own: pd.DataFrame, categories: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """LIBERO-Plus: variants by category, beside the base tasks, each as often as it has variants."""
    named = own[own["task"].notna()]
    bases = named["task"].map(base_task)
    varied = named.assign(base=bases)[bases != named["task"]]
    if varied.empty:
        return
    plain = named[bases == named["task"]].assign(solved=lambda rows: rows["outcome"] == "success")
    rates = plain.groupby(["suite", "task"])["solved"].mean()
    kinds = varied["task"].map(lambda name: categories.get(name) or _kind(name))
    for (suite, kind), rows in varied.assign(kind=kinds).groupby(["suite", "kind"], sort=True):
        for task, chosen in ((None, rows), *rows.groupby("base", sort=False)):
            solved, n = int((chosen["outcome"] == "success").sum()), len(chosen)
            bounds = rate_interval(solved, n)
            base = (
                chosen["base"].map(lambda name, suite=suite: rates.get((suite, name), float("nan"))).mean(skipna=False)
            )
            told = {"base_suite": suite, "perturbation": kind, "task": task, "n": n, "base_rate": base}
            yield {
                **told,
                **{"rate": solved / n, "rate_low": bounds.low, "rate_high": bounds.high},
                "difference": solved / n - base,
            }


def _kind(name: str) -> str:
    """What the suffix of a LIBERO-Plus variant alone tells; a camera's and a reset's have the same form."""
    suffix = name.removeprefix(base_task(name))
    kinds = {
        "_language_": "Language Instructions",
        "_noise_": "Sensor Noise",
        "_light_": "Light Conditions",
        "_table_": "Background Textures",
        "_tb_": "Background Textures",
        "_view_": "Camera Viewpoints or Robot Initial States",
    }
    return next((kind for mark, kind in kinds.items() if mark in suffix), "Objects Layout")
