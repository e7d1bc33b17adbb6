"""The controller: a passive actor that workers pull from. It asks pure functions what to do, and writes the ledger."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from harness.cluster.rows import decision_rows, duplicate_rows, episode_rows, motion_rows
from harness.errors import HarnessError, LedgerError
from harness.ledger import LedgerWriter
from harness.ledger.storage import Location
from harness.rollout.faults import describe_exception
from harness.schedule.early_stopping import EarlyStopping
from harness.schedule.leases import Lease
from harness.schedule.order import TaskId
from harness.schedule.progress import RunSnapshot
from harness.schedule.result import EpisodeResult
from harness.schedule.state import RunState
from harness.spec.observation import PolicyInfo
from harness.spec.policy import PolicyAtNfe
from harness.time_source import TimeSource

if TYPE_CHECKING:
    from harness.cluster.claim import Claimed
    from harness.cluster.ray_session import RaySession

LEASE_GRACE_S = 300.0
"""What a lease may take besides its episode: building the simulator (5–9 s on a free core) and filming."""


class Controller:
    """Leases units and appends what comes back, from several threads at once.

    When `report` returns, the episodes are on disk, and only then do they count. Appending runs outside the lock, so
    that a disk write keeps nobody from getting work; reports that come in meanwhile are the next append, together.
    """

    def __init__(
        self,
        state: RunState,
        out: str,
        run_id: str,
        infos: Mapping[str, PolicyInfo],
        clock: TimeSource,
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        """Take over a run.

        Args:
            state: The bookkeeping, with nothing leased.
            out: The ledger, claimed by the driver.
            run_id: The run that rows are written for.
            infos: Policy label → what the policy says of itself.
            clock: Time of day and stopwatch of leases.
            early_stopping: Looks at every result that is in the ledger, and may stop the run.
        """
        self._state, self._writer, self._clock = state, LedgerWriter(out, claimed=True), clock
        self._run_id, self._infos = run_id, dict(infos)
        self._lock, self._appending = threading.Lock(), threading.Lock()
        self._waiting: list[EpisodeResult] = []
        self._warnings: list[str] = []
        self._early_stopping = early_stopping
        self._ask_watch(())

    def lease(self, worker: str, node: str = "") -> Lease:
        """The next work of an idle worker on a node."""
        with self._lock:
            return self._state.lease(worker, self._clock.seconds(), self._clock.now(), node)

    def report(self, worker: str, lease_id: int, results: Sequence[EpisodeResult]) -> None:
        """Take the results of a lease; on return they are in the ledger, or stale and dropped."""
        with self._lock:
            to_write = self._state.settle(worker, lease_id, results)
            duplicates = self._state.take_duplicates()
        if duplicates:
            self._writer.append("duplicates", duplicate_rows(self._run_id, duplicates))
        self._write(to_write)

    def lose(self, worker: str, error: tuple[str, str]) -> None:
        """Give up a worker that died or hung."""
        with self._lock:
            to_write = self._state.lose(worker, error)
        self._write(to_write)

    def retire(self, worker: str) -> None:
        """Forget a worker that stopped of its own accord."""
        with self._lock:
            self._state.retire(worker)

    def claim_video(self, variant: PolicyAtNfe, task: TaskId) -> bool:
        """Whether a failed episode may be filmed."""
        with self._lock:
            return self._state.claim_video(variant, task)

    def keep_video(self, path: str, video: bytes) -> None:
        """Write a video that a worker on another node has made.

        Raises:
            LedgerError: It cannot be written, or its path leads out of the ledger's videos.
        """
        parts = PurePosixPath(path).parts
        if parts[:1] != ("videos",) or ".." in parts:
            raise LedgerError(f"{path!r} is no path of a video in a ledger.")
        self._writer.location.write_file(path, pa.py_buffer(video))

    def warn(self, message: str) -> None:
        """Keep a message for the end of the run; the same one is kept once."""
        with self._lock:
            if message not in self._warnings:
                self._warnings.append(message)

    def append(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows of another table."""
        self._writer.append(table, rows)

    def stop(self) -> None:
        """Lease nothing more."""
        with self._lock:
            self._state.stop()

    def snapshot(self) -> RunSnapshot:
        """Where the run stands."""
        with self._lock:
            snapshot = self._state.snapshot(self._clock.seconds())
            return replace(snapshot, warnings=(*self._warnings, *snapshot.warnings))

    def _write(self, results: Sequence[EpisodeResult]) -> None:
        if not results:
            return
        with self._lock:
            batch = self._waiting
            batch.extend(results)
        with self._appending:
            with self._lock:
                if batch is not self._waiting:  # Whoever of this batch was first has written it.
                    return
                self._waiting = []
            self._append_episodes(batch)

    def _append_episodes(self, results: Sequence[EpisodeResult]) -> None:
        try:
            # Decisions first: a crash in between leaves decisions of an episode that will run again, not an episode
            # that lacks them.
            self._writer.append("decisions", decision_rows(self._run_id, results))
            moved = motion_rows(self._run_id, results)
            if moved.num_rows:
                self._writer.append("motion", moved)
            self._writer.append("episodes", episode_rows(self._run_id, results, self._infos))
        except Exception as error:
            # Whatever it is, no later episode can be written either; the driver stops the run and says why.
            message = str(error) if isinstance(error, HarnessError) else describe_exception(error)
            with self._lock:
                self._state.abort(LedgerError.__name__, message)
            return
        with self._lock:
            self._state.confirm(results)
            self._ask_watch([result for result in results if not result.retried])

    def _ask_watch(self, results: Sequence[EpisodeResult]) -> None:
        note = self._early_stopping.take(results) if self._early_stopping is not None else None
        if note is not None:
            self._state.decide(note)


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
        earlier_s=held.seconds,
        max_errors=suite.error_limit(len(claimed.plan)),
    )
    options = {
        "num_cpus": 0,
        "scheduling_strategy": session.on(session.driver_node_id),
        # One thread per worker's report, besides leases and the driver's questions.
        "max_concurrency": n_workers + 8,
    }
    infos = dict(claimed.servers.infos)
    # A process of a cluster that was there before the driver has another working directory.
    place = Location.of(claimed.prepared.out)
    out = place.root if place.is_local else place.label
    actor = session.ray.remote(Controller).options(**options)
    return actor.remote(state, out, claimed.run_id, infos, time, early_stopping)
