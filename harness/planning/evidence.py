"""What ledgers know of how long things take: raw samples by run, to be drawn from again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pandas as pd
import yaml

from harness.ledger.reader import Ledger, read_manifests
from harness.schedule.order import TaskId
from harness.schedule.plan import TimingKey
from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import SYNCHRONOUS, ClockName
from harness.strict_json import read_object

REAL_TIME: ClockName = "wall"
"""The clock that does not wait for anybody."""
BUILT_S = 0.02
"""A task that opened faster than this was held by its worker already, seconds."""


@dataclass(frozen=True, slots=True)
class EpisodeSample:
    """One episode that was run; times in seconds."""

    task: TaskId
    success: bool
    steps: int
    """Control steps."""
    decisions: int
    reset_s: float
    physics_s: float
    render_s: float
    wait_s: float
    """Waiting for the policy, queue and network included."""
    wall_s: float
    timing: TimingKey = (SYNCHRONOUS, None)
    """(clock, source of delays) that it ran under."""

    @property
    def in_real_time(self) -> bool:
        """Whether it waited for a real clock, so that a control step takes its period however quick the machine is."""
        return self.timing[0] == REAL_TIME

    @property
    def own_s(self) -> float:
        """Everything but the wait for a policy."""
        return max(self.wall_s - self.wait_s, 0.0)


@dataclass(frozen=True, slots=True)
class ServedTimes:
    """How one policy was served."""

    infer_s: Mapping[int, tuple[float, ...]]
    """Batch size → seconds of a batch."""
    transport_s: tuple[float, ...]
    """On the way to the server and back."""
    max_batch: int | None = None
    max_wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """What one run of one ledger took."""

    run_id: str
    ledger: str
    hardware: str
    """Hardware profile of its first node, or "unknown"."""
    cores: int
    """Of all its nodes."""
    workers: int
    """Rollout workers; as many as cores where the ledger is too old to say."""
    status: str
    rollout_s: float
    """From the first episode's start to the last one's end."""
    wall_s: float | None
    """From the run's start to its end, without its probes; None for one that did not end."""
    startup_s: tuple[float, ...]
    """From the run's start until each worker's first question for work."""
    end_s: float
    """After the last episode."""
    build_s: tuple[float, ...]
    """Opening a task that the worker did not hold."""
    idle_s: tuple[float, ...]
    """Between two episodes of a worker. Gaps longer than an episode are not in it: they stall all workers at once, and
    drawn for each alone they would come more often than they did."""
    error_rate: float
    episodes: Mapping[PolicyAtNfe, tuple[EpisodeSample, ...]]
    served: Mapping[PolicyAtNfe, ServedTimes] = field(default_factory=dict)
    max_steps: Mapping[str, int] = field(default_factory=dict)
    """LIBERO suite → control steps after which an episode is a timeout."""
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def load(self) -> float:
        """Workers on each core."""
        return self.workers / max(self.cores, 1)


def read_evidence(ledger: Ledger) -> list[RunEvidence]:
    """Raw samples of every run of a ledger that finished episodes."""
    episodes = ledger.episodes
    if not len(episodes):
        return []
    episodes = episodes[episodes["attempt"].fillna(1) >= 1]
    decisions, nodes = ledger.decisions, ledger.nodes
    phases, runs = ledger.phases, ledger.runs
    found = []
    for run_id, rows in episodes.groupby("run_id", sort=True):
        states = runs[runs["run_id"] == run_id]
        if not len(states):
            continue
        evidence = _evidence(
            str(run_id),
            ledger.path,
            rows,
            decisions[decisions["run_id"] == run_id],
            nodes[nodes["run_id"] == run_id],
            phases[phases["run_id"] == run_id],
            states.iloc[-1],
        )
        if evidence is not None:
            found.append(evidence)
    return found


def _evidence(
    run_id: str,
    path: str,
    rows: pd.DataFrame,
    decisions: pd.DataFrame,
    nodes: pd.DataFrame,
    phases: pd.DataFrame,
    state: pd.Series,
) -> RunEvidence | None:
    finished = rows[rows["outcome"] != "error"]
    if not len(finished):
        return None
    cores = int(nodes["cores"].fillna(1).sum()) if len(nodes) else 1
    workers = int(rows["worker"].nunique()) or cores
    began, ended = rows["started_at"].min(), _end_of(rows)
    wall = _seconds(state["started_at"], state["ended_at"])
    probes = float(phases.loc[phases["phase"] == "probes", "seconds"].sum())
    if wall is not None and not len(phases) and _has_probe(state["suite"]):
        # A ledger too old to say what its probes took: they came after the episodes.
        probes = _seconds(ended, state["ended_at"]) or 0.0
    startup = tuple(float(value) for value in rows["startup_s"].dropna() if value > 0)
    until = _seconds(state["started_at"], began)
    hardware = [str(name) for name in nodes["hardware"].dropna()]
    manifests = read_manifests(state["protocol"])
    records = read_object(state["policies"], finite=False) if state["policies"] else {}
    served = _served(decisions, records)
    known = {variant.policy_id for variant in served}
    # Of a policy that was served and whose decisions are not here, nobody knows what it waited for.
    drawn = finished[[known_id in known or not _serving(records, known_id) for known_id in finished["policy_id"]]]
    return RunEvidence(
        run_id,
        path,
        hardware[0] if hardware else "unknown",
        cores,
        workers,
        str(state["status"]),
        rollout_s=(ended - began).total_seconds(),
        wall_s=None if wall is None else wall - probes,
        startup_s=startup or ((until,) if until is not None else ()),
        end_s=max(_seconds(ended, state["ended_at"]) or 0.0, 0.0) if probes == 0 else 0.0,
        build_s=tuple(float(value) for value in rows["build_s"].dropna() if value > BUILT_S),
        idle_s=tuple(float(value) for value in rows["idle_s"].dropna() if value <= finished["wall_s"].median()),
        error_rate=1.0 - len(finished) / len(rows),
        episodes=_samples(drawn),
        served=served,
        max_steps={suite: int(m["max_steps"]) for suite, m in manifests.items() if "max_steps" in m},
        protocols=manifests,
    )


def _end_of(rows: pd.DataFrame) -> pd.Timestamp:
    ended: pd.Timestamp = (rows["started_at"] + pd.to_timedelta(rows["wall_s"].fillna(0.0), unit="s")).max()
    return ended


def _seconds(start: Any, end: Any) -> float | None:
    return None if pd.isna(start) or pd.isna(end) else float((end - start).total_seconds())


def _samples(rows: pd.DataFrame) -> dict[PolicyAtNfe, tuple[EpisodeSample, ...]]:
    found: dict[PolicyAtNfe, list[EpisodeSample]] = defaultdict(list)
    times = rows[["reset_s", "physics_s", "render_s", "policy_wait_s", "wall_s"]].fillna(0.0)
    for row, time in zip(rows.to_dict("records"), times.to_dict("records"), strict=True):
        nfe = None if pd.isna(row["nfe"]) else int(row["nfe"])
        found[PolicyAtNfe(row["policy_id"], nfe)].append(
            EpisodeSample(
                (row["suite"], int(row["task_id"])),
                row["outcome"] == "success",
                int(row["steps"]),
                max(int(row["decisions"]), 1),
                time["reset_s"],
                time["physics_s"],
                time["render_s"],
                time["policy_wait_s"],
                time["wall_s"],
                (row["clock"] or SYNCHRONOUS, row["latency_source"] or None),
            )
        )
    return {variant: tuple(members) for variant, members in found.items()}


def _has_probe(suite: str | None) -> bool:
    told = yaml.safe_load(suite) if suite else None
    return isinstance(told, dict) and told.get("probe") is not None


def _serving(records: Mapping[str, Any], policy: str) -> Mapping[str, Any]:
    return (records.get(policy) or {}).get("serving") or {}


def _served(decisions: pd.DataFrame, records: Mapping[str, Any]) -> dict[PolicyAtNfe, ServedTimes]:
    """Batches of the policies that were served; a decision without transport was made in its worker."""
    remote = decisions[decisions["transport_ms"].notna()]
    found = {}
    for key, rows in remote.groupby(["policy_id", "nfe"], dropna=False):
        policy, nfe = cast("tuple[str, Any]", key)
        serving = _serving(records, policy)
        batches = {
            int(cast("int", size)): tuple(members["infer_ms"].to_numpy() / 1e3)
            for size, members in rows.groupby("batch_size")
        }
        wait = serving.get("max_wait_ms")
        found[PolicyAtNfe(policy, None if pd.isna(nfe) else int(nfe))] = ServedTimes(
            batches,
            tuple(rows["transport_ms"].to_numpy() / 1e3),
            serving.get("max_batch"),
            None if wait is None else wait / 1e3,
        )
    return found
