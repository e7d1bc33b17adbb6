"""One episode under a clock, step by step: which decision was in flight, and what was executed meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.clocks import CLOCK_OF, Move
from harness.ledger import Ledger
from harness.ledger.identities import read_policy_records
from harness.spec.timing import SYNCHRONOUS


@dataclass(frozen=True)
class Timeline:
    """What an episode's rows say happened, in control steps from its start."""

    policy_id: str
    nfe: int | None
    clock: str
    latency_source: str
    episode: str
    """Suite, task, init state."""
    outcome: str
    flights: tuple[tuple[int, int], ...]
    """Of each decision the step of its observation, and the steps until its answer was in hand."""
    executed: tuple[Move, ...]
    """Of each step what was executed: "new" (of the latest chunk), "old" (stale) or "hold"."""


def timelines(ledger: Ledger) -> list[Timeline]:
    """One episode for each clock but the synchronous one: the first one that its rows tell whole.

    What was executed follows from the delays of the decisions by the rules of `harness.clocks`; an episode whose stale
    or held steps that does not give is left out.
    """
    lengths = _lengths(ledger.runs)
    timed = ledger.episodes[
        (ledger.episodes["clock"] != SYNCHRONOUS)
        & ledger.episodes["clock"].isin(list(CLOCK_OF))
        & ledger.episodes["hold_steps"].notna()
        & (ledger.episodes["outcome"] != "error")
    ]
    found = []
    for _, episodes in timed.groupby("clock", sort=False):
        order = episodes.sort_values(["suite", "task_id", "init_state_id", "trial"], kind="stable")
        for row in order.head(20).to_dict("records"):
            timeline = _timeline(ledger, {str(key): value for key, value in row.items()}, lengths)
            if timeline is not None:
                found.append(timeline)
                break
    return found


def _lengths(runs: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Policy label → its chunk length and replan interval, where runs recorded both."""
    found: dict[str, tuple[int, int]] = {}
    for text in runs["policies"].dropna():
        for label, record in read_policy_records(text).items():
            if record.get("chunk_length") and record.get("replan_interval"):
                found[label] = (int(record["chunk_length"]), int(record["replan_interval"]))
    return found


def _timeline(ledger: Ledger, row: dict[str, Any], lengths: dict[str, tuple[int, int]]) -> Timeline | None:
    if row["policy_id"] not in lengths:
        return None
    chunk_length, own = lengths[row["policy_id"]]
    asked = ledger.manifests.get(row["suite"], {}).get("replan_interval")
    interval = min(asked if isinstance(asked, int) else own, chunk_length)
    clock, steps = CLOCK_OF[row["clock"]], int(row["steps"])
    flights: list[tuple[int, int]] = []
    executed: list[Move] = []
    old_from: int | None = None
    delays = _delays(ledger.decisions, row)
    for i, delay in enumerate(delays):
        flights.append((len(executed), delay))
        moves = clock.moves(
            delay, clock.expect(delays[: i + 1]), interval=interval, chunk_length=chunk_length, old_from=old_from
        )
        executed += moves
        old_from = len(moves)
    executed = executed[:steps]
    counts = {which: sum(move.which == which for move in executed) for which in ("old", "hold")}
    if len(executed) < steps or (counts["old"], counts["hold"]) != (row["stale_steps"], row["hold_steps"]):
        return None
    return Timeline(
        str(row["policy_id"]),
        None if pd.isna(row["nfe"]) else int(row["nfe"]),
        clock.name,
        str(row["latency_source"]),
        f"{row['suite']}, task {row['task_id']}, init state {row['init_state_id']}",
        str(row["outcome"]),
        tuple(flights),
        tuple(executed),
    )


def _delays(decisions: pd.DataFrame, row: dict[str, Any]) -> list[int]:
    own = decisions[decisions["episode_key"] == row["episode_key"]]
    for name in ("policy_id", "nfe", "clock", "latency_source"):
        own = own[own[name].isna() if pd.isna(row[name]) else (own[name] == row[name]).fillna(False).astype(bool)]
    return [int(steps) for steps in own.sort_values("decision")["delay_steps"]]
