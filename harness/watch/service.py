"""The watcher: look, decide, act, write down. What to do is decided by pure functions; this is the loop around them."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.errors import HarnessError
from harness.time_source import TimeSource
from harness.watch.backlog.journal import TOLD, CheckpointStatus, Event, Journal, JournalEntry, Kind, State, fold
from harness.watch.backlog.order import BacklogOrder, choose, overflow, supersedes
from harness.watch.checkpoints.discovery import CheckpointCandidate, Signature, digest_place, inspect, is_settled, scan
from harness.watch.checkpoints.files import open_tree
from harness.watch.checkpoints.naming import Arrival, register
from harness.watch.checkpoints.weights import BrokenCheckpointError
from harness.watch.evaluation.process import Evaluator
from harness.watch.evaluation.request import End, EvaluationOptions, EvaluationRequest, EvaluationResult
from harness.watch.training.outbox import Submission, read_submissions
from harness.watch.training.state import HISTORY, jumps, read_training_state

FIRST_RETRY_S = 5.0
LAST_RETRY_S = 300.0
MAX_DEATHS = 3
"""How often the process of an evaluation may die before its checkpoint is given up."""
MAX_REFUSALS = 2
"""How often a checkpoint may fail to load: the first time, a machine that trains may have been out of memory."""
MAX_TROUBLE = 3
"""How often in a row a watch that is to end may meet trouble of the machine before it ends without."""

OWN_FAULT = frozenset({"PolicyError", "NoPolicyError", "UsageError", "SpecError"})
"""Errors that lie in the checkpoint or in how it is to be loaded."""
DEATHS = frozenset({"EvaluationDied"})


@dataclass(frozen=True)
class Settings:
    """What to watch, and how to evaluate."""

    evaluation: EvaluationOptions
    """How each checkpoint is evaluated, and into which ledger."""
    directory: str | None = None
    """Folder that training writes checkpoints to; path or URI."""
    outbox: Path | None = None
    """Folder of an `EvalClient`."""
    order: BacklogOrder = BacklogOrder.NEWEST
    cancel: bool = True
    """Whether a newer checkpoint cancels the queued episodes of an older one (order "newest")."""
    max_waiting: int | None = None
    """Most checkpoints that may wait; the rest is left out, and said."""
    quiet_s: float = 30.0
    poll_s: float = 5.0


@dataclass(frozen=True)
class Hooks:
    """What the watcher calls."""

    say: Callable[[str], None]
    """A line for people."""
    choose_gpus: Callable[[], str | None] = lambda: None
    """CUDA_VISIBLE_DEVICES of the next evaluation.

    Raises:
        HarnessError: There is none that may be used now.
    """
    judge: Callable[[JournalEntry, State], tuple[str, str]] = lambda entry, state: ("", "")
    """(verdict, reason) of a checkpoint whose episodes are in the ledger."""
    fetch: Callable[[], None] = lambda: None
    """Bring in what lies elsewhere, as submissions to the outbox; called before each look.

    Raises:
        HarnessError: It could not; the watch goes on and tries again.
    """
    publish: Callable[[State, JournalEntry | None], None] = lambda state, entry: None
    """Write the learning curve again, after a result or, without an entry, at the start."""


@dataclass
class _Running:
    entry: JournalEntry
    cancelled_by: str = ""


@dataclass
class _Trouble:
    """How an entry has failed so far, in this process."""

    failures: int = 0
    deaths: int = 0
    not_before: float = 0.0


@dataclass
class Watcher:
    """One training run's watcher."""

    settings: Settings
    evaluator: Evaluator
    clock: TimeSource
    hooks: Hooks
    state: State = field(default_factory=State)
    _running: _Running | None = None
    _seen: dict[str, tuple[Signature, float]] = field(default_factory=dict)
    """Place → its files, and since when they have been like that."""
    _inspected: dict[str, Signature] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _trouble: dict[str, _Trouble] = field(default_factory=dict)
    _troubles_in_a_row: int = 0
    _unsettled: int = 0

    def __post_init__(self) -> None:
        """Read what earlier watchers of this ledger wrote down."""
        self.journal = Journal(self.settings.evaluation.out)
        self.state = fold(self.journal.read())
        self._tree = open_tree(self.settings.directory) if self.settings.directory else None

    def run(self, *, once: bool, stopped: Callable[[], bool], sleep: Callable[[float], None]) -> bool:
        """Watch until stopped, or, with `once`, until everything that is there has its result.

        Returns:
            Whether it came to its own end; False when it was stopped, or when trouble of the machine left work undone.
        """
        self.hooks.publish(self.state, None)
        while not stopped():
            busy = self._guarded_turn()
            if once and not busy:
                return not self.state.with_status(CheckpointStatus.WAITING)
            sleep(min(self.settings.poll_s, 0.5) if self._running else self.settings.poll_s)
        return False

    def stop(self) -> None:
        """End a running evaluation; what it has finished is in the ledger, and counts when it goes on."""
        if self._running is None:
            return
        entry, self._running = self._running.entry, None
        self.hooks.say(f"{entry.name}: ending; running episodes are finished first")
        outcome = self.evaluator.stop()
        if outcome.end in (End.EVALUATED, End.CHANGED, End.VANISHED):
            self._conclude(entry, outcome, "")

    def retry(self) -> None:
        """Let failed and skipped checkpoints wait again."""
        for entry in [
            *self.state.with_status(CheckpointStatus.FAILED),
            *self.state.with_status(CheckpointStatus.SKIPPED),
        ]:
            self._write(Event(Kind.RETURNED, entry.name))

    def turn(self) -> bool:
        """Look once and act; whether anything is going on or waits to be done."""
        self._look()
        self._drop_overflow()
        if self._running is not None:
            self._attend(self._running)
        if self._running is None:
            self._start_next()
        waiting = self.state.with_status(CheckpointStatus.WAITING)
        return self._running is not None or bool(waiting) or self._unsettled > 0

    def _guarded_turn(self) -> bool:
        """A turn that survives a full disk, a missing GPU, a cluster that is gone; False ends a watch that may end."""
        try:
            return self.turn() and (self._running is not None or self._troubles_in_a_row < MAX_TROUBLE)
        except HarnessError as error:
            self._troubles_in_a_row += 1
            self._say_once(f"{error} Trying again.")
            return self._troubles_in_a_row < MAX_TROUBLE

    # -- looking --------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._unsettled = 0
        self.hooks.fetch()
        if self._tree is not None:
            candidates, faults = scan(self._tree, self.settings.evaluation.marker)
            for fault in faults:
                self._refuse(fault.place, fault.reason, fault.reason)
            # In the order in which they were written: that is what tells a restart from a late discovery.
            for candidate in sorted(candidates, key=lambda one: (one.written_ns, one.step)):
                self._consider(candidate)
        if self.settings.outbox is not None:
            submissions, broken = read_submissions(self.settings.outbox)
            for place, reason in broken:
                self._refuse(place, reason, reason)
            for submission in submissions:
                if submission.submission_id not in self.state.submissions:
                    self._receive(submission)

    def _consider(self, candidate: CheckpointCandidate) -> None:
        assert self._tree is not None  # noqa: S101
        now = self.clock.seconds()
        files, since = self._seen.get(candidate.place, ((), now))
        if files != candidate.files:
            since = now
        self._seen[candidate.place] = (candidate.files, since)
        if self._inspected.get(candidate.place) == candidate.files:
            return
        wait = {"now_s": self.clock.now().timestamp(), "unchanged_s": now - since, "quiet_s": self.settings.quiet_s}
        if not is_settled(candidate, marker=self.settings.evaluation.marker, **wait):
            self._unsettled += self.settings.evaluation.marker is None
            return
        try:
            digest = inspect(self._tree, candidate)
        except BrokenCheckpointError as error:
            self._refuse(candidate.place, str(error), _sign(candidate.files))
        else:
            self._register(Arrival(candidate.place, candidate.step, digest, candidate.written_ns))
        self._inspected[candidate.place] = candidate.files

    def _receive(self, submission: Submission) -> None:
        identifier = submission.submission_id
        try:
            digest, _ = digest_place(submission.checkpoint)
        except (OSError, BrokenCheckpointError, HarnessError) as error:
            # Another machine's disk may show the checkpoint a little later than its submission.
            if self.clock.now().timestamp() - submission.submitted_at < self.settings.quiet_s:
                self._unsettled += 1
                return
            gone = "is gone" if isinstance(error, FileNotFoundError) else str(error)
            self._refuse(submission.checkpoint, gone, identifier, identifier)
            return
        written_ns = int(submission.submitted_at * 1e9)
        self._register(
            Arrival(
                submission.checkpoint,
                submission.step,
                digest,
                written_ns,
                "outbox",
                submission.submission_id,
                **{name: getattr(submission, name) for name in TOLD},
            )
        )

    def _register(self, arrival: Arrival) -> None:
        latest = max((entry.lineage for entry in self.state.entries.values()), default=1)
        arrival = replace(arrival, flags=tuple(self._jumps(arrival)))
        for event in register(self.state, arrival):
            self._write(event)
            if event.kind is Kind.FOUND:
                restart = ", training has been restarted from an earlier step" if event.data["lineage"] > latest else ""
                self.hooks.say(f"{event.name}: found at {arrival.place}{restart}")
                for flag in arrival.flags:
                    self.hooks.say(f"warning: {event.name}: {flag}")
            elif event.kind is Kind.AGAIN:
                self.hooks.say(f"{arrival.place} is {event.name} once more, with equal contents: not evaluated again")
            elif event.kind is Kind.RETURNED:
                self.hooks.say(f"{event.name}: is there again")
            else:
                self.hooks.say(f"{event.name}: {event.data['reason']}")

    def _jumps(self, arrival: Arrival) -> list[str]:
        """What of training jumped between the checkpoints before this one and it; see `jumps`."""
        # Of each step the one that was written last: after a restart that is what training went on from.
        before = {
            entry.step: entry
            for entry in sorted(self.state.entries.values(), key=lambda entry: entry.written_ns)
            if entry.step < arrival.step and entry.status is not CheckpointStatus.CHANGED
        }
        history = [read_training_state(one.place, one.step, one.loss) for _, one in sorted(before.items())[-HISTORY:]]
        return jumps(history, read_training_state(arrival.place, arrival.step, arrival.loss))

    def _refuse(self, place: str, reason: str, signature: str, submission_id: str = "") -> None:
        if (place, signature) in self.state.refused:
            return
        data = {"reason": reason, "signature": signature, "submission_id": submission_id}
        self._write(Event(Kind.REFUSED, place, data))
        self.hooks.say(f"{place} {reason}: not evaluated")

    # -- acting ---------------------------------------------------------------------------------------------------

    def _drop_overflow(self) -> None:
        settings, running = self.settings, self._running
        waiting = [
            entry
            for entry in self.state.with_status(CheckpointStatus.WAITING)
            if not (running and entry == running.entry)
        ]
        for entry in overflow(waiting, self._settled(), settings.order, settings.max_waiting):
            reason = f"more than {settings.max_waiting} checkpoints waited ({settings.order})"
            self._write(Event(Kind.SKIPPED, entry.name, {"reason": reason}))
            self.hooks.say(f"{entry.name}: skipped, {reason}; --retry brings it back")

    def _attend(self, running: _Running) -> None:
        # One that waits for its next try makes nobody give way: it could not begin.
        others = [entry for entry in self._ready() if entry.name != running.entry.name]
        newer = supersedes(running.entry, others, self.settings.order, cancel=self.settings.cancel)
        if newer is not None and not running.cancelled_by:
            running.cancelled_by = newer.name
            self.evaluator.cancel()
            self.hooks.say(f"{running.entry.name}: its queued episodes give way to {newer.name}")
        outcome = self.evaluator.poll()
        if outcome is not None:
            self._running = None
            self._conclude(running.entry, outcome, running.cancelled_by)

    def _start_next(self) -> None:
        entry = choose(self._ready(), self._settled(), self.settings.order)
        if entry is None:
            return
        request = self._request(entry, self.hooks.choose_gpus())
        left = len(self.state.with_status(CheckpointStatus.WAITING)) - 1
        self.hooks.say(f"{entry.name}: evaluating" + (f"; {left} more wait ({self.settings.order})" if left else ""))
        self.evaluator.start(request)
        self._running = _Running(entry)

    def _conclude(self, entry: JournalEntry, outcome: EvaluationResult, cancelled_by: str) -> None:
        """Write down how an evaluation ended."""
        counts = {"planned": outcome.planned, "held": outcome.held, "errors": outcome.errors}
        if outcome.end is End.EVALUATED:
            verdict, reason = self.hooks.judge(entry, self.state)
            self._write(Event(Kind.EVALUATED, entry.name, {**counts, "verdict": verdict, "reason": reason}))
            errors = f", {outcome.errors} infrastructure errors" if outcome.errors else ""
            self.hooks.say(f"{entry.name}: {outcome.held} episodes{errors}" + (f"; {verdict}" if verdict else ""))
        elif outcome.end is End.CANCELLED:
            self._write(Event(Kind.CANCELLED, entry.name, {**counts, "by": cancelled_by}))
            left = outcome.planned - outcome.held
            self.hooks.say(f"{entry.name}: {left} of {outcome.planned} episodes left for when nothing newer waits")
        elif outcome.end in (End.CHANGED, End.VANISHED):
            kind = Kind.CHANGED if outcome.end is End.CHANGED else Kind.VANISHED
            self._write(Event(kind, entry.name, {"reason": outcome.message}))
            self._inspected.pop(entry.place, None)
            self.hooks.say(f"{entry.name}: {outcome.message}")
        elif outcome.end is End.FAILED:
            self._fail(entry, outcome)
            return
        self._troubles_in_a_row = 0
        self._trouble.pop(entry.name, None)
        self.hooks.publish(self.state, self.state.entries[entry.name])

    def _fail(self, entry: JournalEntry, outcome: EvaluationResult) -> None:
        trouble = self._trouble.setdefault(entry.name, _Trouble())
        trouble.failures += 1
        trouble.deaths += outcome.error_type in DEATHS
        delay = retry_delay(outcome.error_type, trouble.failures, trouble.deaths)
        if delay is None:
            self._write(Event(Kind.FAILED, entry.name, {"reason": outcome.message}))
            self.hooks.say(f"{entry.name}: failed. {outcome.message} --retry tries it again.")
            self.hooks.publish(self.state, self.state.entries[entry.name])
            return
        self._troubles_in_a_row += 1
        trouble.not_before = self.clock.seconds() + delay
        self.hooks.say(f"{entry.name}: {outcome.message} Going on with what is missing in {delay:.0f} s.")

    def _request(self, entry: JournalEntry, gpus: str | None) -> EvaluationRequest:
        return EvaluationRequest(entry.name, entry.place, entry.digest, self.settings.evaluation, gpus)

    def _ready(self) -> list[JournalEntry]:
        now, waiting = self.clock.seconds(), self.state.with_status(CheckpointStatus.WAITING)
        return [one for one in waiting if self._trouble.get(one.name, _Trouble()).not_before <= now]

    def _settled(self) -> list[JournalEntry]:
        return self.state.with_status(CheckpointStatus.EVALUATED)

    def _write(self, event: Event) -> None:
        self.journal.append(event, self.clock.now())
        self.state = fold([event], self.state)

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            self.hooks.say(message)


def retry_delay(error_type: str, failures: int, deaths: int) -> float | None:
    """When to try a failed evaluation again. Pure.

    Args:
        error_type: Type of the error that ended it.
        failures: How often this checkpoint's evaluation has failed, this time included.
        deaths: How often its process died.

    Returns:
        Seconds to wait, longer every time; None when the checkpoint is at fault. A full disk, or a cluster that cannot
        be reached, is never the checkpoint's fault.
    """
    if (error_type in OWN_FAULT and failures >= MAX_REFUSALS) or deaths >= MAX_DEATHS:
        return None
    return float(min(FIRST_RETRY_S * 2 ** (failures - 1), LAST_RETRY_S))


def resume_command(argv: list[str] | None = None) -> str:
    """The command that goes on with this watch: the same one."""
    return shlex.join(["harness", *(sys.argv[1:] if argv is None else argv)])


def _sign(files: Signature) -> str:
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]
