"""What perturbations cost, by perturbation and by task, and the picture of it."""

from __future__ import annotations

from typing import Any

from harness.analysis.summary import Summary
from harness.report.format import NONE, count, known, percent, percent_interval, points, probability, task_name, text
from harness.report.names import VariantNames
from harness.report.plots import drop_bars
from harness.report.tables.table import Records, Table, records
from harness.spec.perturbations import PRO

NOTE = (
    "drop: success on the perturbed suite less that of the base suite, points. Paired by policy, task, init state and "
    "trial where the suites share them (LIBERO-PRO): 95 % bounds after Tango, p exact McNemar, adjusted after Holm. "
    "LIBERO-Plus varies init states too: its drop is against the rate of the base tasks, without an interval. The 95 % "
    "beside the perturbed rate are Clopper-Pearson. pairs: episodes with a result on both sides; for LIBERO-Plus, "
    "variants."
)
_COLUMNS = ("pairs", "base", "perturbed", "95 %", "drop", "95 %", "lost / gained", "p")


def robustness_tables(summary: Summary, names: VariantNames) -> list[Table]:
    """One table over perturbations, one over tasks; none in a ledger without perturbed suites beside their base."""
    found = records(summary.robustness)
    whole = [row for row in found if not known(row["task"])]
    single = [row for row in found if known(row["task"])]
    return [
        Table(
            "Robustness: what perturbations cost",
            ("policy", "suite", "perturbation", *_COLUMNS),
            tuple((names.of(row), text(row["base_suite"]), _told(row), *_cells(row)) for row in whole),
            3,
            NOTE,
            names.key,
        ),
        Table(
            "Robustness per task",
            ("policy", "suite", "perturbation", "task", *_COLUMNS),
            tuple(
                (
                    names.of(row),
                    text(row["base_suite"]),
                    _told(row),
                    task_name(row["task"]),
                    *_cells(row),
                )
                for row in single
            ),
            4,
            "As above; p adjusted over the rows of this table.",
            names.key,
        ),
    ]


def _told(row: dict[str, Any]) -> str:
    """A perturbation, with what LIBERO-PRO means by it."""
    what = text(row["perturbation"])
    return f"{what} ({PRO[what]})" if what in PRO else what


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    paired = known(row["low"])
    return (
        count(row["n"]),
        percent(row["base_rate"]) if known(row["base_rate"]) else NONE,
        percent(row["rate"]),
        percent_interval(row["rate_low"], row["rate_high"]),
        points(row["difference"]) if known(row["difference"]) else NONE,
        f"{points(row['low'])} … {points(row['high'])}" if paired else NONE,
        f"{count(row['lost'])} / {count(row['gained'])}" if paired else NONE,
        probability(row["p_holm"]) if paired else NONE,
    )


def robustness_plots(summary: Summary, names: VariantNames) -> list[dict[str, str]]:
    """Per base suite: the drop under each perturbation, a bar for each policy."""
    whole = [row for row in records(summary.robustness) if not known(row["task"]) and known(row["difference"])]
    plots: list[dict[str, str]] = []
    for suite in dict.fromkeys(text(row["base_suite"]) for row in whole):
        own = [row for row in whole if text(row["base_suite"]) == suite]
        told = f"Change of success under each perturbation of {suite}, points, with 95 % intervals where episodes pair."
        plot = drop_bars(_bars(own, names), name=f"robustness{len(plots)}", description=told)
        plots.append({"plot": plot, "caption": told})
    return plots


def _bars(rows: Records, names: VariantNames) -> dict[str, dict[str, tuple[float, float | None, float | None]]]:
    """Policy → perturbation → (change, low, high)."""
    bars: dict[str, dict[str, tuple[float, float | None, float | None]]] = {}
    for row in rows:
        bounds = (float(row["low"]), float(row["high"])) if known(row["low"]) else (None, None)
        bars.setdefault(names.of(row), {})[text(row["perturbation"])] = (float(row["difference"]), *bounds)
    return bars
