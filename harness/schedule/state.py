"""The controller's bookkeeping: leases, attempts, counts. No Ray, no files; time comes in as an argument."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from harness.schedule.early_stopping import StopNote
from harness.schedule.leases import Lease, WorkItem
from harness.schedule.order import TaskId, fill_queue, put_back, set_aside, take
from harness.schedule.pace import Pace
from harness.schedule.progress import ErrorSummary, PolicyProgress, Progress, RunSnapshot
from harness.schedule.quarantine import Nodes
from harness.schedule.result import EpisodeResult, lost_episode
from harness.schedule.retry import Decision, decide
from harness.schedule.stragglers import Copies, Duplicate, UnderWay, choose_straggler
from harness.schedule.units import EpisodeIdentity, EpisodeUnit
from harness.spec.policy import PolicyAtNfe
from harness.spec.suite import Video

TARGET_LEASE_S = 1.0
"""Work in one lease. LIBERO episodes last longer and go one by one; a stub episode is shorter than a round trip."""
MAX_LEASE_UNITS = 256
WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class _OpenLease:
    worker: str
    items: tuple[WorkItem, ...]
    since: float
    started_at: datetime
    node: str = ""


@dataclass(slots=True)
class _Seconds:
    """Running mean of episode durations."""

    total: float = 0.0
    n: int = 0

    def add(self, seconds: float) -> None:
        self.total += seconds
        self.n += 1

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None


@dataclass(slots=True)
class _Tally:
    done: Counter[PolicyAtNfe] = field(default_factory=Counter)
    successes: Counter[PolicyAtNfe] = field(default_factory=Counter)
    errors: Counter[PolicyAtNfe] = field(default_factory=Counter)
    error_types: Counter[str] = field(default_factory=Counter)
    first_message: dict[str, str] = field(default_factory=dict)


class RunState:
    """Who has which units, what came back, what is left. Not thread-safe."""

    def __init__(
        self,
        plan: Iterable[EpisodeUnit],
        *,
        skipped: set[EpisodeIdentity] | frozenset[EpisodeIdentity] = frozenset(),
        earlier_attempts: Mapping[EpisodeIdentity, int] | None = None,
        max_attempts: int,
        lease_limit_s: float,
        n_workers: int,
        video: Video = "none",
        filmed: Iterable[tuple[PolicyAtNfe, TaskId]] = (),
        started: datetime,
        rounds: Iterable[Iterable[EpisodeUnit]] | None = None,
        earlier_s: Mapping[TaskId, Sequence[float]] | None = None,
        max_errors: int | None = None,
    ) -> None:
        """Start with nothing leased.

        Args:
            plan: Every unit of the run.
            skipped: Identities that the ledger already holds.
            earlier_attempts: Identity → attempts that earlier runs recorded as errors.
            max_attempts: Attempts that this run gives an episode.
            lease_limit_s: Seconds after which a lease counts as lost.
            n_workers: Workers among whom the queue is shared out.
            video: "none", "failures" or "all".
            filmed: (variant, task) pairs that have their video already.
            started: When the run began, UTC.
            rounds: The plan in rounds, each leased out before the next one begins; None for one round of everything.
            earlier_s: Task → what its episodes took in earlier runs, so that the longest begin first from the start.
            max_errors: Episodes that may end as errors before the run stops; None for all.
        """
        units = tuple(plan)
        self._planned = Counter(unit.policy_at_nfe for unit in units)
        self._n_planned = len(units)
        self._skipped = frozenset(skipped)
        self._rounds = deque(
            tuple(unit for unit in members if unit.identity not in self._skipped) for members in (rounds or [units])
        )
        self._queue = fill_queue(())
        self._n_skipped = len(units) - self.n_queued
        self._earlier = dict(earlier_attempts or {})
        self._max_attempts, self._lease_limit_s, self._n_workers = max_attempts, lease_limit_s, max(n_workers, 1)
        self._video, self._filmed = video, set(filmed)
        self._first = _first_of_each_task(units) if video == "all" else frozenset()
        self._leases: dict[int, _OpenLease] = {}
        self._next_lease = 0
        self._assignments: dict[str, TaskId] = {}
        self._workers: set[str] = set()
        self._failed: Counter[EpisodeIdentity] = Counter()
        self._alone: set[EpisodeIdentity] = set()
        self._seconds: dict[TaskId, _Seconds] = defaultdict(_Seconds)
        self._all_seconds = _Seconds()
        for task, durations in (earlier_s or {}).items():
            for seconds in durations:
                self._seconds[task].add(seconds)
                self._all_seconds.add(seconds)
        self._unwritten = 0
        self._tally, self._pace = _Tally(), Pace()
        self._nodes, self._copies = Nodes(), Copies()
        self._max_errors, self._n_errors = max_errors, 0
        self._stopped = False
        self._aborted: tuple[str, str] | None = None
        self._decided: StopNote | None = None
        self._losses = 0
        self._started = started
        self._first_lease: float | None = None

    # -- workers --------------------------------------------------------------------------------------------------

    def lease(self, worker: str, now: float, started_at: datetime, node: str = "") -> Lease:
        """Hand work to an idle worker.

        Args:
            worker: Who asks.
            now: Monotonic seconds.
            started_at: Time of day, UTC.
            node: Where it runs.
        """
        self._workers.add(worker)
        self._nodes.seat(worker, node)
        if self._stopped or node in self._nodes.barred:
            return Lease(stop=True)
        while self._rounds and not self._queue.n_units:
            self._queue = fill_queue(self._rounds.popleft())
        queue, aside = self._queue, tuple[EpisodeUnit, ...]()
        if self._nodes.any_failed:
            queue, aside = set_aside(queue, lambda unit: self._nodes.may_run(unit.identity, node))
        chosen, queue = take(queue, worker, self._assignments, self._expected_s, self._lease_size())
        if not chosen:
            if node and not aside and (late := choose_straggler(self._under_way(now), node)) is not None:
                return self._lease_again(late, worker, now, started_at, node)
            return Lease(wait_s=WAIT_S) if self._any_awaited or self._unwritten or aside else Lease(stop=True)
        queue = put_back(queue, aside) if aside else queue
        n_alone = next((i for i, unit in enumerate(chosen) if unit.identity in self._alone), len(chosen))
        chosen, rest = chosen[: max(n_alone, 1)], chosen[max(n_alone, 1) :]
        self._queue = put_back(queue, rest) if rest else queue
        self._assignments[worker] = chosen[0].task
        items = tuple(self._item(unit) for unit in chosen)
        self._first_lease = now if self._first_lease is None else self._first_lease
        return self._open(_OpenLease(worker, items, now, started_at, node))

    def settle(self, worker: str, lease_id: int, results: Sequence[EpisodeResult]) -> list[EpisodeResult]:
        """Take back a lease with its results.

        Returns:
            The results to write now, retried attempts among them; `confirm` them once they are. Nothing is written of a
            lease that was given up before: those units belong to somebody else now.
        """
        lease = self._leases.get(lease_id)
        if lease is None or lease.worker != worker:
            return []
        del self._leases[lease_id]
        self._losses = 0
        returned = {result.unit.identity for result in results}
        self._return(item.unit for item in lease.items if item.unit.identity not in returned)
        return self._judge(self._counted(lease_id, results))

    def take_duplicates(self) -> list[Duplicate]:
        """Episodes that ended twice since this was last asked: of interest, and counted once."""
        return self._copies.take()

    def confirm(self, written: Sequence[EpisodeResult]) -> None:
        """Count results that the ledger holds."""
        self._unwritten -= len(written)
        for result in written:
            if result.retried:
                continue
            variant = result.unit.policy_at_nfe
            self._tally.done[variant] += 1
            self._tally.successes[variant] += result.outcome == "success"
            if result.outcome == "error":
                error_type = result.error_type or "unknown"
                self._tally.errors[variant] += 1
                self._tally.error_types[error_type] += 1
                self._tally.first_message.setdefault(error_type, result.error_message or "")

    def lose(self, worker: str, error: tuple[str, str]) -> list[EpisodeResult]:
        """Give up a worker: its units go back, or are recorded as errors once they have had their attempts.

        A lease of several units does not say which of them was at fault: all go back, and run alone from then on.

        Args:
            worker: The worker that died or hung.
            error: (error type, message).

        Returns:
            Error results to write and `confirm`.
        """
        self._workers.discard(worker)
        self._assignments.pop(worker, None)
        node = self._nodes.leave(worker)
        lost = {lease_id: lease for lease_id, lease in self._leases.items() if lease.worker == worker}
        self._losses += 1
        failures: list[EpisodeResult] = []
        for lease_id, lease in lost.items():
            del self._leases[lease_id]
            if len(lease.items) > 1:
                self._alone.update(item.unit.identity for item in lease.items)
                self._return(item.unit for item in lease.items)
            else:
                lost_now = [
                    lost_episode(item.unit, item.attempt, lease.started_at, error, node) for item in lease.items
                ]
                failures += self._counted(lease_id, lost_now)
        return self._judge(failures)

    def retire(self, worker: str) -> None:
        """Forget a worker that stopped of its own accord."""
        self._workers.discard(worker)
        self._nodes.leave(worker)
        self._assignments.pop(worker, None)

    def claim_video(self, variant: PolicyAtNfe, task: TaskId) -> bool:
        """Whether a failed episode may be filmed: the first of its task and policy that asks."""
        if (variant, task) in self._filmed:
            return False
        self._filmed.add((variant, task))
        return True

    # -- the driver -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Lease nothing more."""
        self._stopped = True

    def abort(self, error_type: str, message: str) -> None:
        """Lease nothing more, and say why; the first reason stands."""
        self._aborted = self._aborted or (error_type, message)
        self._stopped = True

    def decide(self, note: StopNote) -> None:
        """Lease nothing more, because the run has answered its question; the first note stands."""
        self._decided = self._decided or note
        self._stopped = True

    @property
    def n_queued(self) -> int:
        """Units that nobody has leased."""
        return self._queue.n_units + sum(map(len, self._rounds))

    def snapshot(self, now: float) -> RunSnapshot:
        """Where the run stands."""
        awaited = self._awaited
        overdue = {lease.worker for lease in awaited.values() if now - lease.since > self._lease_limit_s}
        return RunSnapshot(
            progress=self._progress(now),
            finished=not (self.n_queued or awaited or self._unwritten),
            overdue=tuple(sorted(overdue)),
            aborted=self._aborted,
            busy=tuple(lease.worker for lease in self._leases.values()),
            superseded=tuple(lease.worker for lease_id, lease in self._leases.items() if lease_id not in awaited),
            losses_in_a_row=self._losses,
            errors=tuple(
                ErrorSummary(name, count, self._tally.first_message[name])
                for name, count in self._tally.error_types.most_common()
            ),
            warnings=tuple(self._nodes.barred.values()),
            decided=self._decided,
        )

    # -- inside ---------------------------------------------------------------------------------------------------

    @property
    def _any_awaited(self) -> bool:
        return any(not self._copies.superseded(lease.items[0].unit.identity) for lease in self._leases.values())

    @property
    def _awaited(self) -> dict[int, _OpenLease]:
        """Open leases without those whose episode has ended elsewhere."""
        return {
            lease_id: lease
            for lease_id, lease in self._leases.items()
            if not self._copies.superseded(lease.items[0].unit.identity)
        }

    def _open(self, lease: _OpenLease) -> Lease:
        lease_id = self._next_lease
        self._next_lease += 1
        self._leases[lease_id] = lease
        return Lease(lease_id, lease.items)

    def _under_way(self, now: float) -> Iterator[UnderWay]:
        """Episodes that run alone in their lease and once, of tasks of which it is known what they take."""
        for lease_id, lease in self._leases.items():
            unit = lease.items[0].unit
            known = self._seconds[unit.task].mean if unit.task in self._seconds else self._all_seconds.mean
            if len(lease.items) == 1 and known and not self._copies.twice(unit.identity):
                yield UnderWay(lease_id, unit, lease.node, now - lease.since, known)

    def _lease_again(self, late: UnderWay, worker: str, now: float, started_at: datetime, node: str) -> Lease:
        items = self._leases[late.lease_id].items
        self._assignments[worker] = late.unit.task
        self._copies.begin(late.unit.identity, late.lease_id, self._next_lease)
        return self._open(_OpenLease(worker, items, now, started_at, node))

    def _counted(self, lease_id: int, results: Sequence[EpisodeResult]) -> list[EpisodeResult]:
        """The results that count: of an episode that runs twice the first that ends, and no error before the last."""
        counted = []
        for result in results:
            goes_on = self._copies.close(result.unit.identity, lease_id)
            if result.outcome == "error":
                if not goes_on and not self._copies.superseded(result.unit.identity):
                    counted.append(result)
            elif self._copies.end(result):
                counted.append(result)
        return counted

    def _progress(self, now: float) -> Progress:
        done = self._tally.done.total()
        elapsed = now - self._first_lease if self._first_lease is not None else 0.0
        rate = done / elapsed if elapsed > 0 else 0.0
        remaining = self._n_planned - self._n_skipped - done
        eta = remaining / rate if rate > 0 else None
        return Progress(
            planned=self._n_planned,
            skipped=self._n_skipped,
            done=done,
            successes=self._tally.successes.total(),
            errors=self._tally.errors.total(),
            per_policy={
                variant: PolicyProgress(
                    planned, self._tally.done[variant], self._tally.successes[variant], self._tally.errors[variant]
                )
                for variant, planned in self._planned.items()
            },
            workers=len(self._workers),
            started=self._started,
            elapsed_s=elapsed,
            rate=rate,
            eta_s=eta,
            eta_band_s=self._pace.band(eta, remaining),
            limit=self._pace.limit(),
        )

    def _judge(self, results: Iterable[EpisodeResult]) -> list[EpisodeResult]:
        """Decide about each result: what is tried again is marked, so that its row tells of an attempt only."""
        to_write: list[EpisodeResult] = []
        for result in results:
            identity = result.unit.identity
            if result.outcome != "error":
                self._nodes.finished(result.node_id, identity)
                self._seconds[result.unit.task].add(result.wall_s)
                self._all_seconds.add(result.wall_s)
                self._pace.add(result)
                to_write.append(result)
                continue
            error_type, message = result.error_type or "", result.error_message or ""
            self._failed[identity] += 1
            self._nodes.failed(result.node_id, identity, error_type, message)
            elsewhere = self._nodes.elsewhere(identity)
            verdict = decide(error_type, self._failed[identity], self._max_attempts, elsewhere=elsewhere)
            if verdict is Decision.RETRY:
                self._return([result.unit])
                to_write.append(replace(result, retried=True))
                continue
            to_write.append(result)
            self._nodes.forget(identity)
            self._n_errors += 1
            if verdict is Decision.ABORT:
                self.abort(error_type, message)
            elif self._max_errors is not None and self._n_errors > self._max_errors:
                self.abort(
                    "TooManyErrors",
                    f"{self._n_errors} episodes ended as errors, and the suite allows {self._max_errors} (max_errors); "
                    f"the last one: {error_type}: {message}",
                )
        self._unwritten += len(to_write)
        return to_write

    def _return(self, units: Iterable[EpisodeUnit]) -> None:
        self._queue = put_back(self._queue, units)

    def _item(self, unit: EpisodeUnit) -> WorkItem:
        attempt = self._earlier.get(unit.identity, 0) + self._failed[unit.identity] + 1
        item = WorkItem(unit, attempt)
        if unit.identity in self._first:
            return replace(item, video="always")
        if self._video == "failures" and (unit.policy_at_nfe, unit.task) not in self._filmed:
            return replace(item, video="on_failure")
        return item

    def _expected_s(self, task: TaskId) -> float:
        known = self._seconds.get(task)
        return (known.mean if known else None) or self._all_seconds.mean or 1.0

    def _lease_size(self) -> int:
        """Units of about `TARGET_LEASE_S`, but never so many that the last leases are uneven."""
        mean = self._all_seconds.mean
        if not mean:
            return 1
        fair = -(-self._queue.n_units // (2 * self._n_workers))
        return max(1, min(int(TARGET_LEASE_S / mean), fair, MAX_LEASE_UNITS))


def _first_of_each_task(units: Iterable[EpisodeUnit]) -> frozenset[EpisodeIdentity]:
    """The first planned init state of each task, for each policy and NFE."""
    first: dict[tuple[PolicyAtNfe, TaskId], EpisodeUnit] = {}
    for unit in units:
        place = (unit.policy_at_nfe, unit.task)
        held = first.get(place)
        if held is None or (unit.init_state_id, unit.trial) < (held.init_state_id, held.trial):
            first[place] = unit
    return frozenset(unit.identity for unit in first.values())
