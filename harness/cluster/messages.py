"""What driver, controller, workers and servers say to each other. Plain data: it is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from harness.clocks import DelaySource
from harness.cluster.isolation import NO_LIMITS, Isolation
from harness.cluster.recording import Recording
from harness.schedule.order import TaskId
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicySpec
from harness.spec.protocol import Protocol
from harness.spec.suite import Limits
from harness.time_source import TimeSource, WallTime


@dataclass(frozen=True, slots=True)
class PolicySetup:
    """How a worker asks one policy."""

    spec: PolicySpec
    info: PolicyInfo
    servers: tuple[object, ...] = ()
    """Actor handles of its policy servers; empty: the worker builds the policy itself."""
    canaries: tuple[str | None, ...] = ()
    """How the node of each server compared with the others'; empty where nobody asked."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What is known of its origin and how it is served: plain data for `runs.policies`."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node as ledgers know it."""

    node_id: str
    """`nodes.node_id`, which outlives a Ray session."""
    hardware: str
    gl: str | None = None
    """What renders there, as in `nodes.gl`."""
    canary: str | None = None
    """How it compared with the reference, as in `episodes.canary`."""


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
    """The ledger that relative video paths start from, an absolute path or a URI; None: no videos."""
    video_cameras: tuple[str, ...] = ()
    ledger_node: str | None = None
    """Ray's id of the node that writes a local ledger: others need not share its file system, and send their videos."""
    recording: Recording | None = None
    """What becomes of episodes as demonstrations; None: nothing."""
    isolation: Isolation = NO_LIMITS
    time: TimeSource = field(default_factory=WallTime)
    sources: Mapping[str, DelaySource] = field(default_factory=dict)
    """`latency_source` → what decisions take."""
    began: datetime | None = None
    """When the run began, UTC: what a worker's start-up is counted from."""


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
