"""The rollouts of a run: controller, workers and the loop over them, brought up and taken down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.cluster.claim import Claimed
from harness.cluster.controller import Controller
from harness.cluster.drive import DriveResult, RolloutDrive
from harness.cluster.group import WorkerGroup
from harness.cluster.messages import WorkerSetup
from harness.cluster.ray_session import RaySession
from harness.interrupts import Interrupts
from harness.rollout.time_source import TimeSource
from harness.schedule.placement import WorkerSlot
from harness.schedule.progress import Progress
from harness.schedule.state import RunState

LEASE_GRACE_S = 300.0
"""What a lease may take besides its episode: building the simulator (5–9 s on a free core) and filming."""


def start_controller(session: RaySession, claimed: Claimed, *, n_workers: int, time: TimeSource) -> Any:
    """Start the controller on the driver's node, which is where the ledger is.

    Returns:
        Its actor handle.
    """
    suite, held, early_stopping = claimed.suite, claimed.held, claimed.early_stopping
    state = RunState(
        claimed.plan,
        skipped=held.finished,
        earlier_attempts=held.attempts,
        max_attempts=suite.max_attempts,
        lease_limit_s=suite.limits.episode_s + LEASE_GRACE_S,
        n_workers=n_workers,
        video=suite.video,
        filmed=held.filmed,
        started=time.now(),
        rounds=early_stopping.rounds() if early_stopping is not None else None,
    )
    options = {
        "num_cpus": 0,
        "scheduling_strategy": session.on(session.driver_node_id),
        # One thread per worker's report, besides leases and the driver's questions.
        "max_concurrency": n_workers + 8,
    }
    infos, clock_mode = dict(claimed.servers.infos), suite.protocol.clock
    actor = session.ray.remote(Controller).options(**options)
    return actor.remote(state, claimed.prepared.out, claimed.run_id, clock_mode, infos, time, early_stopping)


def roll_out(
    session: RaySession,
    slots: Sequence[WorkerSlot],
    claimed: Claimed,
    setup: WorkerSetup,
    controller: Any,
    time: TimeSource,
    interrupts: Interrupts,
    on_progress: Callable[[Progress], None],
) -> DriveResult:
    """Start workers and drive them to the end.

    Args:
        session: The cluster.
        slots: Where workers go.
        claimed: The run.
        setup: What workers have to know.
        controller: Actor handle of the controller.
        time: Time.
        interrupts: Ctrl-C.
        on_progress: Called about four times a second.

    Raises:
        HarnessError: It is useless to go on.
    """
    claimed.servers.attach(len(slots), {node_id: place.hardware for node_id, place in setup.places.items()})
    backends = {node_id: report.backend for node_id, report in claimed.reports.items()}
    environments = {node_id: backend.env for node_id, backend in backends.items() if backend is not None}
    group = WorkerGroup(session, slots, setup, controller, environments)
    drive = RolloutDrive(
        session,
        group,
        controller,
        clock=time,
        interrupts=interrupts,
        on_progress=on_progress,
        max_attempts=claimed.suite.max_attempts,
        episode_s=claimed.suite.limits.episode_s,
    )
    return drive.drive()
