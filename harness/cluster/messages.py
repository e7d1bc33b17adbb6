"""What driver, controller, workers and servers say to each other. Plain data: it is pickled."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harness.cluster.isolation import NO_LIMITS, Isolation
from harness.cluster.recording import Recording
from harness.rollout.result import EpisodeResult
from harness.schedule.order import Task
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicySpec
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits

Variant = tuple[str, int | None]
"""(policy label, NFE)."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One unit handed to a worker."""

    unit: EpisodeUnit
    attempt: int
    """Which attempt this is, from 1, over all runs of the ledger."""
    video: str = "never"
    """"never"; "always"; "on_failure": if it times out and the controller agrees."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What an idle worker is told."""

    lease_id: int = -1
    items: tuple[WorkItem, ...] = ()
    wait_s: float = 0.0
    """Without items: ask again after this long, because another worker may yet lose its work."""
    stop: bool = False
    """Nothing is left, or the run is being stopped."""


@dataclass(frozen=True, slots=True)
class PolicyProgress:
    """Counts of one policy at one NFE, in this run."""

    planned: int = 0
    done: int = 0
    successes: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Counts only what the ledger already holds."""

    planned: int
    """Episodes of the whole plan."""
    skipped: int
    """Of those, in the ledger before this run began."""
    done: int
    """Episodes that this run wrote."""
    successes: int
    errors: int
    per_policy: Mapping[Variant, PolicyProgress]
    workers: int
    """Workers that have asked for work and are alive."""
    started: datetime
    elapsed_s: float
    """Seconds since the first lease."""
    rate: float
    """Episodes written per second."""
    eta_s: float | None
    """Seconds to the end at this rate; None while unknown."""

    @property
    def remaining(self) -> int:
        """Episodes that are still to be written."""
        return self.planned - self.skipped - self.done


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Errors of one type that the ledger holds from this run."""

    error_type: str
    count: int
    message: str
    """The first one's message."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the driver polls."""

    progress: Progress
    finished: bool
    """Every unit of the plan is in the ledger."""
    overdue: tuple[str, ...]
    """Workers whose lease has expired."""
    aborted: tuple[str, str] | None
    """(error type, message) of what makes it useless to go on."""
    losses_in_a_row: int
    """Workers lost since an episode last came back."""
    errors: tuple[ErrorSummary, ...] = ()
    warnings: tuple[str, ...] = ()
    decided: StopNote | None = None
    """Why the queued units need not run."""


@dataclass(frozen=True, slots=True)
class StopNote:
    """A watch's word that the run has answered its question."""

    reason: str
    """One sentence for people."""
    record: Mapping[str, Any]
    """Plain data that is kept beside the ledger as `STOP_RECORD`; nothing is kept of a note without any."""
    status: str = "stopped"
    """Status of the run in the ledger."""


STOP_RECORD = "stop.json"
"""File beside the tables of a run that a watch stopped: what had been decided, and from which episodes."""


class Watch(typing.Protocol):
    """Looks at results while a run goes on. It travels to the controller, so it has to pickle."""

    def rounds(self) -> Sequence[Sequence[EpisodeUnit]]:
        """Every unit of the plan, in rounds: a round is leased out before the next one begins."""

    def take(self, results: Sequence[EpisodeResult]) -> StopNote | None:
        """Take results that are in the ledger; a note drops what is still queued."""


@dataclass(frozen=True, slots=True)
class PolicySetup:
    """How a worker asks one policy."""

    spec: PolicySpec
    info: PolicyInfo
    servers: tuple[object, ...] = ()
    """Actor handles of its policy servers; empty: the worker builds the policy itself."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What is known of its origin and how it is served: plain data for `runs.policies`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node as ledgers know it."""

    node_id: str
    """`nodes.node_id`, which outlives a Ray session."""
    hardware: str


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Everything a rollout worker has to know."""

    world: str
    protocol: Protocol
    limits: Limits
    policies: Mapping[str, PolicySetup]
    """Policy label → how to ask it."""
    task_names: Mapping[Task, str]
    places: Mapping[str, Place] = field(default_factory=dict)
    """Ray's node id → the node's name and hardware in ledgers."""
    video_dir: str | None = None
    """Local directory that relative video paths start from; None: no videos."""
    video_cameras: tuple[str, ...] = ()
    recording: Recording | None = None
    """What becomes of episodes as demonstrations; None: nothing."""
    isolation: Isolation = NO_LIMITS


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    """What a worker says when it stops."""

    worker_id: str
    episodes: int
    active_s: float
    """Seconds between its first question for work and its last answer."""
    build_s: float
    """Of those, spent building simulators."""
    idle_s: float
    """Of those, spent without work while other workers still had some."""
    heavy_modules: tuple[str, ...] = ()
    """Of torch and transformers, those that its process has imported."""
