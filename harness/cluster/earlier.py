"""What a ledger says of episodes that ran before: what `--resume` need not run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.schedule.order import TaskId
from harness.schedule.units import EpisodeIdentity
from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import SYNCHRONOUS


@dataclass(frozen=True, slots=True)
class EarlierEpisodes:
    """What a ledger says of episodes that ran before."""

    finished: set[EpisodeIdentity]
    attempts: Mapping[EpisodeIdentity, int]
    """Attempts recorded as errors."""
    filmed: frozenset[tuple[PolicyAtNfe, TaskId]]
    seconds: Mapping[TaskId, Sequence[float]] = field(default_factory=dict)
    """Task → what its episodes took, seconds."""


def read_held(out: str, *, resume: bool) -> EarlierEpisodes:
    """Read what a ledger holds; nothing unless a run is being resumed."""
    if not resume:
        return EarlierEpisodes(set(), {}, frozenset())
    from harness.ledger import finished_identities

    columns = ["policy_id", "nfe", "episode_key", "attempt", "outcome", "video", "suite", "task_id", "wall_s"]
    columns += ["clock", "latency_source"]
    rows = read_rows(Location.of(out), "episodes", columns)
    attempts: dict[EpisodeIdentity, int] = {}
    for row in rows:
        clock = row["clock"] or SYNCHRONOUS
        identity = (row["policy_id"], row["nfe"], row["episode_key"], clock, row["latency_source"])
        attempts[identity] = max(attempts.get(identity, 0), row["attempt"])
    filmed = {
        (PolicyAtNfe(row["policy_id"], row["nfe"]), (row["suite"], row["task_id"])) for row in rows if row["video"]
    }
    seconds: dict[TaskId, list[float]] = {}
    for row in rows:
        if row["outcome"] != "error" and row["wall_s"] is not None:
            seconds.setdefault((row["suite"], row["task_id"]), []).append(row["wall_s"])
    return EarlierEpisodes(finished_identities(out), attempts, frozenset(filmed), seconds)
