"""Plans that runs stored of themselves, and how they did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UsageError
from harness.ledger.reader import Ledger
from harness.planning.evidence import read_evidence
from harness.planning.forecast import BAND, forecast
from harness.planning.nodes_file import NodesFile
from harness.planning.scoring import FAILED, NO_DATA, PLANNED, PlanScore, ScoredPlan
from harness.planning.simulate import Setting
from harness.planning.suite_plan import decides_in_workers, plan_units, require_same_protocol
from harness.spec import Suite
from harness.time_source import TimeSource

UNPLANNED = "no plan stored"
MOST_LEDGERS = 6
"""Ledgers beside a run's own that its plan of itself is drawn from, the newest: reading takes time too."""
BUDGET_S = 0.5
"""Time for simulating a run while it starts."""


def expect_run(
    suite: Suite,
    out: str,
    *,
    nodes: NodesFile,
    workers: int | None,
    time: TimeSource,
) -> dict[str, Any]:
    """What a run that is starting will take, drawn from the ledgers beside its own.

    Args:
        suite: The suite with all changes applied.
        out: The run's ledger.
        nodes: This machine.
        workers: Rollout workers, where somebody says so.
        time: Time of day and stopwatch.

    Returns:
        A row of `plans` without its run; whatever goes wrong is its status.
    """
    row: dict[str, Any] = {"made_at": time.now(), "band": BAND}
    try:
        beside = [path for path in find_beside(out) if path.resolve() != Path(out).resolve()][:MOST_LEDGERS]
        runs = [run for path in beside for run in read_evidence(Ledger(path))]
        units = plan_units(suite)
        require_same_protocol(suite, runs)
        made = forecast(
            units,
            runs,
            Setting(nodes.resources(), workers),
            light=decides_in_workers(suite),
            max_steps={each.suite: suite.protocol.max_steps_of(each.suite) for each in suite.tasks},
            seconds=time.seconds,
            budget_s=BUDGET_S,
            least=1,
        )
    except UsageError as error:
        return {**row, "status": NO_DATA, "inputs": json.dumps({"why": str(error)})}
    except Exception as error:
        return {**row, "status": FAILED, "inputs": json.dumps({"why": f"{type(error).__name__}: {error}"})}
    inputs = {"ledgers": [str(path) for path in beside], "assumed": list(made.notes), "replications": made.replications}
    told = {"episodes": made.episodes, "workers": made.workers, "finish_s": made.finish_s}
    return {**row, **told, "status": PLANNED, "low_s": made.low_s, "high_s": made.high_s, "inputs": json.dumps(inputs)}


def not_planned(time: TimeSource, why: str) -> dict[str, Any]:
    """The row of a run that could not be planned."""
    return {"made_at": time.now(), "band": BAND, "status": NO_DATA, "inputs": json.dumps({"why": why})}


def find_beside(out: str) -> list[Path]:
    """Ledgers in the folder that holds a run's own, the newest first; none of an object store."""
    if "://" in out:
        return []
    folder = Path(out).expanduser().resolve().parent
    places = [path.parent for pattern in ("*/episodes", "*/*/episodes") for path in folder.glob(pattern)]
    return sorted(places, key=lambda path: path.stat().st_mtime, reverse=True)


def score_stored(paths: Sequence[str]) -> PlanScore:
    """PlanScore the plans of every run of these ledgers; a run without one is counted as such.

    Raises:
        LedgerError: No ledger at a path.
    """
    found: list[ScoredPlan] = []
    for path in paths:
        ledger = Ledger(path)
        evidence = {run.run_id: run for run in read_evidence(ledger)}
        plans = {row["run_id"]: row for row in ledger.plans.to_dict("records")}
        for state in ledger.runs.to_dict("records"):
            run = evidence.get(state["run_id"])
            ended = run is not None and run.status == "finished"
            found.append(_scored(state["run_id"], plans.get(state["run_id"]), run.wall_s if run and ended else None))
    return PlanScore(tuple(found))


def _scored(run_id: str, row: dict[Any, Any] | None, took_s: float | None) -> ScoredPlan:
    if row is None:
        return ScoredPlan(run_id, UNPLANNED, took_s)

    def number(name: str) -> float | None:
        return None if pd.isna(row[name]) else float(row[name])

    return ScoredPlan(run_id, str(row["status"]), took_s, number("finish_s"), number("low_s"), number("high_s"))
