"""The rollouts of a run: controller, workers and the loop over them, brought up and taken down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.cluster.controller import Controller
from harness.cluster.drive import DriveResult, RolloutDrive
from harness.cluster.group import WorkerGroup
from harness.cluster.interrupts import Interrupts
from harness.cluster.messages import WorkerSetup
from harness.cluster.policy_servers import PolicyServers
from harness.cluster.ray_session import RaySession
from harness.ledger import finished_identities
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.rollout.time_source import TimeSource, WallTime
from harness.schedule.early_stopping import EarlyStopping
from harness.schedule.order import TaskId
from harness.schedule.placement import WorkerSlot
from harness.schedule.progress import Progress
from harness.schedule.state import RunState
from harness.schedule.units import EpisodeIdentity, EpisodeUnit
from harness.spec import Suite
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicyAtNfe

LEASE_GRACE_S = 300.0
"""What a lease may take besides its episode: building the simulator (5–9 s on a free core) and filming."""


@dataclass(frozen=True, slots=True)
class EarlierEpisodes:
    """What a ledger says of episodes that ran before."""

    finished: set[EpisodeIdentity]
    attempts: Mapping[EpisodeIdentity, int]
    """Attempts recorded as errors."""
    filmed: frozenset[tuple[PolicyAtNfe, TaskId]]


def read_held(out: str, *, resume: bool) -> EarlierEpisodes:
    """Read what a ledger holds; nothing unless a run is being resumed."""
    if not resume:
        return EarlierEpisodes(set(), {}, frozenset())
    columns = ["policy_id", "nfe", "episode_key", "attempt", "outcome", "video", "suite", "task_id"]
    rows = read_rows(Location.of(out), "episodes", columns)
    attempts: dict[EpisodeIdentity, int] = {}
    for row in rows:
        identity = (row["policy_id"], row["nfe"], row["episode_key"])
        attempts[identity] = max(attempts.get(identity, 0), row["attempt"])
    filmed = {
        (PolicyAtNfe(row["policy_id"], row["nfe"]), (row["suite"], row["task_id"])) for row in rows if row["video"]
    }
    return EarlierEpisodes(finished_identities(out), attempts, frozenset(filmed))


def start_controller(
    session: RaySession,
    suite: Suite,
    out: str,
    run_id: str,
    plan: Sequence[EpisodeUnit],
    infos: Mapping[str, PolicyInfo],
    held: EarlierEpisodes,
    *,
    n_workers: int,
    clock: TimeSource,
    early_stopping: EarlyStopping | None = None,
) -> Any:
    """Start the controller on the driver's node, which is where the ledger is.

    Returns:
        Its actor handle.
    """
    state = RunState(
        plan,
        skipped=held.finished,
        earlier_attempts=held.attempts,
        max_attempts=suite.max_attempts,
        lease_limit_s=suite.limits.episode_s + LEASE_GRACE_S,
        n_workers=n_workers,
        video=suite.video,
        filmed=held.filmed,
        started=clock.now(),
        rounds=early_stopping.rounds() if early_stopping is not None else None,
    )
    return (
        session.ray.remote(Controller)
        .options(
            num_cpus=0,
            scheduling_strategy=session.on(session.driver_node_id),
            # One thread per worker's report, besides leases and the driver's questions.
            max_concurrency=n_workers + 8,
        )
        .remote(state, out, run_id, suite.protocol.clock, dict(infos), WallTime(), early_stopping)
    )


def roll_out(
    session: RaySession,
    slots: Sequence[WorkerSlot],
    house: PolicyServers,
    setup: WorkerSetup,
    controller: Any,
    environments: Mapping[str, Mapping[str, str]],
    *,
    suite: Suite,
    clock: TimeSource,
    interrupts: Interrupts,
    on_progress: Callable[[Progress], None],
) -> DriveResult:
    """Start workers and drive them to the end.

    Args:
        session: The cluster.
        slots: Where workers go.
        house: The policies.
        setup: What workers have to know.
        controller: Actor handle of the controller.
        environments: Ray's node id → variables for rendering there.
        suite: The suite, for its limits.
        clock: Time.
        interrupts: Ctrl-C.
        on_progress: Called about four times a second.

    Raises:
        HarnessError: It is useless to go on.
    """
    house.attach(len(slots), {node_id: place.hardware for node_id, place in setup.places.items()})
    group = WorkerGroup(session, slots, setup, controller, environments)
    drive = RolloutDrive(
        session,
        group,
        controller,
        clock=clock,
        interrupts=interrupts,
        on_progress=on_progress,
        max_attempts=suite.max_attempts,
        episode_s=suite.limits.episode_s,
    )
    return drive.drive()
