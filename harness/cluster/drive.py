"""The driver's loop: watch workers, replace lost ones, report progress, stop when told. Rows are not its business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.cluster.group import WorkerEnd, WorkerGroup
from harness.cluster.messages import WorkerSummary
from harness.cluster.ray_errors import ask_controller
from harness.cluster.ray_session import RaySession
from harness.cluster.usage import UsageLog
from harness.errors import ControllerLost, HarnessError, LedgerError, NodeError, PolicyChanged, PolicyError
from harness.interrupts import Interrupts
from harness.rollout.faults import EpisodeTimeout
from harness.schedule.early_stopping import StopNote
from harness.schedule.failure import Restart, decide_restart
from harness.schedule.progress import Progress, RunSnapshot
from harness.time_source import TimeSource

POLL_S = 0.25
GRACE_S = 8.0
"""How long running episodes may take to come back after Ctrl-C."""
DUPLICATE_S = 5.0
"""How long an episode that has ended elsewhere may take to end a second time, once the run is finished."""

FATAL_ERRORS: dict[str, type[HarnessError]] = {
    "LedgerError": LedgerError,
    "PolicyServerLost": PolicyError,
    "PolicyChanged": PolicyChanged,
}


@dataclass(slots=True)
class DriveResult:
    """How the rollouts ended."""

    snapshot: RunSnapshot
    interrupted: bool = False
    summaries: list[WorkerSummary] = field(default_factory=list)

    @property
    def stopped(self) -> StopNote | None:
        """Why the rest of the plan was dropped, if it was."""
        return None if self.snapshot.finished else self.snapshot.decided


class RolloutDrive:
    """Brings the rollouts of a run to their end."""

    def __init__(
        self,
        session: RaySession,
        group: WorkerGroup,
        controller: Any,
        *,
        clock: TimeSource,
        interrupts: Interrupts,
        on_progress: Callable[[Progress], None],
        max_attempts: int,
        episode_s: float,
        usage: UsageLog,
    ) -> None:
        """Watch over `group`; see `drive`.

        Args:
            session: Connection to the Ray cluster that the workers run on.
            group: Workers, started.
            controller: Actor handle of the `Controller`.
            clock: Stopwatch for the time that workers are given after Ctrl-C.
            interrupts: Ctrl-C.
            on_progress: Called about four times a second.
            max_attempts: Attempts that an episode is given.
            episode_s: Limit of an episode, for the message about a worker that hangs.
            usage: Notes who is busy.
        """
        self._session, self._group, self._controller = session, group, controller
        self._clock, self._interrupts, self._on_progress = clock, interrupts, on_progress
        self._max_attempts, self._episode_s, self._usage = max_attempts, episode_s, usage
        self._n_workers = group.n_alive
        self._summaries: list[WorkerSummary] = []
        self._stop_at: float | None = None
        self._duplicates_until: float | None = None
        self._seen: RunSnapshot | None = None

    def drive(self) -> DriveResult:
        """Run until every unit is in the ledger, or until interrupted.

        Raises:
            HarnessError: It is useless to go on; finished episodes are in the ledger.
        """
        try:
            return self._drive()
        except ControllerLost:
            if not (self._interrupts.count and self._seen):
                raise
            # What interrupts a run may end the controller as well: a preempted job's processes are all signalled.
            return DriveResult(self._seen, True, self._summaries)

    def _drive(self) -> DriveResult:
        snapshot = self._look()
        try:
            while self._group.n_alive:
                for end in self._group.poll(POLL_S):
                    self._handle(end)
                self._session.head.require()
                snapshot = self._look()
                self._usage.sample(self._group.places, snapshot.busy)
                self._kill_overdue(snapshot)
                if snapshot.aborted is not None:
                    raise fatal_error(*snapshot.aborted)
                if self._give_up_waiting() or self._only_duplicates(snapshot):
                    break
        finally:
            self._group.close()
        snapshot = self._look()
        if snapshot.aborted is not None:
            raise fatal_error(*snapshot.aborted)
        interrupted = self._interrupts.count > 0 and not snapshot.finished
        if not (snapshot.finished or interrupted or snapshot.decided):
            raise NodeError("Every node that could run episodes has left the cluster; continue with --resume.")
        return DriveResult(snapshot, interrupted, self._summaries)

    def _look(self) -> RunSnapshot:
        snapshot: RunSnapshot = ask_controller(self._session.ray, self._controller.snapshot.remote())
        self._seen = snapshot
        self._on_progress(snapshot.progress)
        return snapshot

    def _handle(self, end: WorkerEnd) -> None:
        """A worker stopped or died."""
        if end.summary is not None:
            self._summaries.append(end.summary)
            self._call("retire", end.worker_id)
            return
        assert end.error is not None  # noqa: S101
        self._call("lose", end.worker_id, end.error)
        if end.node_lost or self._stop_at is not None:
            return
        snapshot = self._look()
        if snapshot.finished or snapshot.aborted is not None:
            return
        verdict = decide_restart(snapshot.losses_in_a_row, self._n_workers, self._max_attempts)
        if verdict is Restart.GIVE_UP:
            raise NodeError(
                f"{snapshot.losses_in_a_row} rollout workers in a row were lost before an episode came back; the last "
                f"one: {end.error[1]} See `harness doctor`, then continue with --resume."
            )
        self._group.replace(end)

    def _kill_overdue(self, snapshot: RunSnapshot) -> None:
        message = (
            f"The worker did not come back within the episode limit of {self._episode_s:g} s and its grace, and was "
            "killed: simulator or policy hangs where Python cannot interrupt it."
        )
        for worker_id in snapshot.overdue:
            end = self._group.kill(worker_id, (EpisodeTimeout.__name__, message))
            if end is not None:
                self._handle(end)

    def _only_duplicates(self, snapshot: RunSnapshot) -> bool:
        """Whether all that still runs has ended elsewhere, and has had its time to end too."""
        if not snapshot.finished or not snapshot.superseded:
            return False
        self._duplicates_until = self._duplicates_until or self._clock.seconds() + DUPLICATE_S
        return self._clock.seconds() > self._duplicates_until

    def _give_up_waiting(self) -> bool:
        """After Ctrl-C, lease nothing more; True once running episodes have had their time."""
        if self._interrupts.count == 0:
            return False
        if self._stop_at is None:
            self._call("stop")
            self._stop_at = self._clock.seconds() + GRACE_S
        return self._interrupts.count > 1 or self._clock.seconds() > self._stop_at

    def _call(self, method: str, *args: Any) -> None:
        ask_controller(self._session.ray, getattr(self._controller, method).remote(*args))


def fatal_error(error_type: str, message: str) -> HarnessError:
    """The exception for what made the controller stop the run."""
    return FATAL_ERRORS.get(error_type, NodeError)(message)
