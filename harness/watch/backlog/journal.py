"""What has happened to each checkpoint: one small file per event beside the ledger, written whole, never changed.

The state of a watch is a fold over its events, so that a watcher that was killed at any moment, and one on another
machine, goes on where it stopped.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from harness.errors import LedgerError
from harness.ledger.storage import Location
from harness.strict_json import read_object, text, whole

FOLDER = "watch"
"""Folder of a watch inside its ledger."""
JOURNAL = "watch/journal"
FORMAT_VERSION = 1
STAMP = "%Y%m%dT%H%M%S.%f"
"""How the files are named, so that their order is that of the events."""


class Kind(StrEnum):
    """What can happen."""

    FOUND = "found"
    """A checkpoint got its name. data: step, lineage, place, digest, written_ns, source, submission_id."""
    AGAIN = "again"
    """The same contents for the same step came a second time. data: place, submission_id, signature."""
    REFUSED = "refused"
    """Something is no usable checkpoint; `name` is its place. data: reason, signature."""
    CANCELLED = "cancelled"
    """Its queued episodes gave way to a newer checkpoint; it waits again. data: done, planned, by."""
    EVALUATED = "evaluated"
    """Every episode of it is in the ledger. data: planned, errors, verdict, reason."""
    FAILED = "failed"
    """It cannot be evaluated. data: reason."""
    SKIPPED = "skipped"
    """The backlog was too long. data: reason."""
    CHANGED = "changed"
    """Training overwrote it; what the ledger has of it counts for nothing. data: reason."""
    VANISHED = "vanished"
    """It was deleted before it could be evaluated. data: reason."""
    RETURNED = "returned"
    """It is there again. data: place."""


class CheckpointStatus(StrEnum):
    """Where a checkpoint stands."""

    WAITING = "waiting"
    EVALUATED = "evaluated"
    FAILED = "failed"
    SKIPPED = "skipped"
    CHANGED = "changed"
    VANISHED = "vanished"


_STATUS = {
    Kind.CANCELLED: CheckpointStatus.WAITING,
    Kind.RETURNED: CheckpointStatus.WAITING,
    Kind.EVALUATED: CheckpointStatus.EVALUATED,
    Kind.FAILED: CheckpointStatus.FAILED,
    Kind.SKIPPED: CheckpointStatus.SKIPPED,
    Kind.CHANGED: CheckpointStatus.CHANGED,
    Kind.VANISHED: CheckpointStatus.VANISHED,
}


TOLD = ("gpu_hours", "price", "loss")
"""What a submission may tell of its training."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    kind: Kind
    name: str
    """Name of the checkpoint."""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A checkpoint that has a name."""

    name: str
    """Its policy label in the ledger, unique in a training run."""
    step: int
    lineage: int
    """1 for the first time that training went past this step, 2 after a restart from an earlier step, …"""
    place: str
    digest: str
    written_ns: int
    status: CheckpointStatus = CheckpointStatus.WAITING
    reason: str = ""
    verdict: str = ""
    """Of the rules, once it has been evaluated."""
    gpu_hours: float | None = None
    """What training had taken up to it; None where it was not told, as the next two."""
    price: float | None = None
    loss: float | None = None
    flags: tuple[str, ...] = ()
    """What jumped since the checkpoint before it, in words."""

    @property
    def position(self) -> tuple[int, int]:
        """Order of training: (lineage, step)."""
        return (self.lineage, self.step)


@dataclass(frozen=True)
class State:
    """Everything that is known of a training run."""

    entries: Mapping[str, JournalEntry] = field(default_factory=dict)
    """By name, in the order of their discovery."""
    refused: frozenset[tuple[str, str]] = frozenset()
    """(place, signature) of what was refused or came twice, so that it is said once."""
    submissions: frozenset[str] = frozenset()
    """Submissions that have been read."""

    def with_status(self, status: CheckpointStatus) -> list[JournalEntry]:
        """Entries that have a status."""
        return [entry for entry in self.entries.values() if entry.status is status]


def fold(events: Iterable[Event], state: State | None = None) -> State:
    """Apply events, in order, to a state.

    An event about a checkpoint that nobody has found is ignored; so is a second result of one that has its result.
    """
    now = state or State()
    entries, refused, submissions = dict(now.entries), set(now.refused), set(now.submissions)
    for event in events:
        if event.data.get("submission_id"):
            submissions.add(str(event.data["submission_id"]))
        if event.kind in (Kind.REFUSED, Kind.AGAIN) and event.data.get("signature"):
            place = event.name if event.kind is Kind.REFUSED else str(event.data["place"])
            refused.add((place, str(event.data["signature"])))
            if event.kind is Kind.AGAIN and event.name in entries:
                entries[event.name] = replace(entries[event.name], **_told(event.data))
        elif event.kind is Kind.FOUND:
            entries.setdefault(event.name, _entry(event))
        elif event.kind in _STATUS and event.name in entries:
            entries[event.name] = _advance(entries[event.name], event)
    return State(entries, frozenset(refused), frozenset(submissions))


def _entry(event: Event) -> JournalEntry:
    data = event.data
    return JournalEntry(
        name=event.name,
        step=int(data["step"]),
        lineage=int(data["lineage"]),
        place=str(data["place"]),
        digest=str(data["digest"]),
        written_ns=int(data["written_ns"]),
        flags=tuple(map(str, data.get("flags") or ())),
        **_told(data),
    )


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(data[name]) for name in TOLD if data.get(name) is not None}


def _advance(entry: JournalEntry, event: Event) -> JournalEntry:
    if entry.status is CheckpointStatus.EVALUATED and event.kind is not Kind.CHANGED:
        return entry
    return replace(
        entry,
        status=_STATUS[event.kind],
        place=str(event.data.get("place") or entry.place),
        reason=str(event.data.get("reason", "")),
        verdict=str(event.data.get("verdict", "")),
    )


class Journal:
    """The events of one ledger."""

    def __init__(self, ledger: str) -> None:
        """Point at a ledger; nothing is created before the first event."""
        self.location = Location.of(ledger)
        self._folder = f"{self.location.root}/{JOURNAL}"
        self._made = False
        self._last: datetime | None = None

    def read(self) -> list[Event]:
        """Every event, in order.

        Raises:
            LedgerError: A file cannot be read; names it.
        """
        try:
            infos = self.location.filesystem.get_file_info(pafs.FileSelector(self._folder, allow_not_found=True))
            paths = sorted(info.path for info in infos if info.base_name.endswith(".json") and info.base_name[0] != ".")
            times = [_time_of(path) for path in paths]
            self._last = times[-1] if times else self._last
            return [self._parse(path) for path in paths]
        except OSError as error:
            raise self.location.failure("read the journal of", error) from error

    def append(self, event: Event, now: datetime) -> None:
        """Write an event; when this returns it survives a crash. It comes last, whatever the clock says.

        Raises:
            LedgerError: It cannot be written.
        """
        if not self._made:
            self.location.make_dir(self._folder)
            self._made = True
        data = {"format_version": FORMAT_VERSION, "kind": event.kind, "name": event.name, **event.data}
        self._last = now if self._last is None else max(now, self._last + timedelta(microseconds=1))
        name = f"{self._last:{STAMP}}Z-{event.kind}-{uuid.uuid4().hex[:8]}.json"
        self.location.write_whole(f"{self._folder}/{name}", pa.py_buffer((json.dumps(data) + "\n").encode()))

    def _parse(self, path: str) -> Event:
        with self.location.filesystem.open_input_file(path) as source:
            raw = source.read()
        try:
            data = read_object(raw)
            if whole(data, "format_version") != FORMAT_VERSION:
                raise ValueError("it has another format version; upgrade vla-harness")
            return _event(data)
        except ValueError as error:
            raise LedgerError(f"{path!r} is no event of a watch ({error}). Restore it from a copy.") from error


def _event(data: Mapping[str, Any]) -> Event:
    """An event from its file, with everything that `fold` needs of its kind."""
    kind, name = Kind(text(data, "kind")), text(data, "name")
    if kind is Kind.FOUND:
        for key in ("step", "lineage", "written_ns"):
            whole(data, key)
        for key in ("place", "digest"):
            text(data, key)
    if kind is Kind.AGAIN and data.get("signature"):
        text(data, "place")
    return Event(
        kind, name, {key: value for key, value in data.items() if key not in ("format_version", "kind", "name")}
    )


def _time_of(path: str) -> datetime:
    """When an event was written, from its file's name, which decides the order."""
    stamp = path.rpartition("/")[2].partition("Z")[0]
    try:
        return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise LedgerError(
            f"{path!r} is no event of a watch: its name does not begin with a time, as 20260101T120000.000000Z-found-… "
            "does. Move it away."
        ) from None
