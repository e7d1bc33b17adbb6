"""How long an evaluation took on the wall clock, and whether the policy or the simulator took it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import yaml

from harness.analysis.paired.pairing import Side
from harness.analysis.timing import throughput, time_shares
from harness.ledger import Ledger
from harness.ledger.import_eval_info import SOURCE

_SIMULATOR = ("reset", "physics", "render")


@dataclass(frozen=True)
class EvaluationTime:
    """Wall time of one side's episodes."""

    label: str
    episodes: int
    elapsed_s: float | None
    """Time in which any of its episodes was under way; of an imported file its `eval_s`. None where nothing tells."""
    imported: bool
    """Whether `elapsed_s` is what a file states: one figure, which is not split."""
    episode_s: float | None
    """Mean over the episodes, seconds of one worker; None for an imported file."""
    policy_share: float | None
    """Share of it in which the simulator waited for the policy."""
    simulator_share: float | None
    """Share of reset, physics and rendering; the rest is the harness's own."""


def evaluation_time(ledger: Ledger, side: Side) -> EvaluationTime | None:
    """Time the episodes of a side; None where its ledger holds no times."""
    stated = [seconds for run in side.runs if (seconds := _stated(ledger, run)) is not None]
    if stated:
        return EvaluationTime(side.label, side.n, sum(stated), True, None, None, None)
    columns = ["reset_s", "physics_s", "render_s", "policy_wait_s", "wall_s", "started_at", "run_id"]
    identity = ["policy_id", "nfe", "clock", "latency_source"]
    rows = ledger.rows("episodes", [*identity, *columns])
    rows = rows.filter(pc.is_valid(rows["wall_s"]))
    frame: pd.DataFrame = rows.to_pandas()
    for name, value in zip(identity, (side.policy_id, side.nfe, *side.timing), strict=True):
        frame = frame[frame[name].isna() if value is None else frame[name] == value]
    if frame.empty:
        return None
    # One group: a single side's rows agree in what time_shares groups by.
    shares = time_shares(frame).iloc[0]
    simulator = sum(float(shares[f"{part}_share"]) for part in _SIMULATOR)
    elapsed = float(throughput(frame)["busy_s"].sum())
    return EvaluationTime(
        side.label,
        int(shares["episodes"]),
        elapsed if elapsed > 0 else None,
        False,
        float(shares["wall_s"]) / int(shares["episodes"]),
        *(None if pd.isna(share) else share for share in (float(shares["policy_wait_share"]), simulator)),
    )


def _stated(ledger: Ledger, run_id: str) -> float | None:
    """Sum of the `eval_s` of an imported run's files; None for a run of the harness."""
    texts = ledger.runs.loc[ledger.runs["run_id"] == run_id, "suite"].dropna()
    described = yaml.safe_load(texts.iloc[0]) if len(texts) else None
    if not isinstance(described, Mapping) or described.get("source") != SOURCE:
        return None
    return _sum_of(described.get("overall"))


def _sum_of(overall: Any) -> float | None:
    """`eval_s` of one file's block, or of several under their paths, of which every one states it."""
    if not isinstance(overall, Mapping) or not overall:
        return None
    own = overall.get("eval_s")
    if isinstance(own, int | float):
        return float(own) if own > 0 else None
    inner = [_sum_of(part) for part in overall.values()]
    return sum(part for part in inner if part is not None) if all(part is not None for part in inner) else None
