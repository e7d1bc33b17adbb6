"""What driver, controller, workers and servers say to each other. Plain data: it is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harness.cluster.isolation import NO_LIMITS, Isolation
from harness.cluster.recording import Recording
from harness.rollout.early_stopping import StopNote
from harness.schedule.order import TaskId
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicyAtNfe, PolicySpec
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits


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
    per_policy: Mapping[PolicyAtNfe, PolicyProgress]
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
class RunSnapshot:
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
class PolicySetup:
    """How a worker asks one policy."""

    spec: PolicySpec
    info: PolicyInfo
    servers: tuple[object, ...] = ()
    """Actor handles of its policy servers; empty: the worker builds the policy itself."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What is known of its origin and how it is served: plain data for `runs.policies`."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
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
    task_names: Mapping[TaskId, str]
    places: Mapping[str, NodeIdentity] = field(default_factory=dict)
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
