"""Names for checkpoints as they arrive: the same contents keep one name, a restarted training gets new ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from harness.watch.backlog.journal import TOLD, CheckpointStatus, Event, JournalEntry, Kind, State


@dataclass(frozen=True, slots=True)
class Arrival:
    """A checkpoint that is complete and whole."""

    place: str
    step: int
    digest: str
    written_ns: int
    """When it was written or submitted, nanoseconds since 1970."""
    source: str = "scan"
    """"scan" or "outbox"."""
    submission_id: str = ""
    gpu_hours: float | None = None
    """Of its submission, as the next two."""
    price: float | None = None
    loss: float | None = None
    flags: tuple[str, ...] = ()
    """What jumped between the checkpoint before it and this one, in words."""


def register(state: State, arrival: Arrival) -> list[Event]:
    """Decide what an arrival is.

    - The contents and step of a checkpoint that has a name: that one, once more. It is not evaluated again.
    - Otherwise a new checkpoint. When its step is not past the latest one of the present lineage, though it was written
      later, training has been restarted from an earlier step: a new lineage begins, and names say so.

    Args:
        state: Checkpoints that have a name, from the journal.
        arrival: What has come.

    Returns:
        Events, in order; none for what is known already.
    """
    known = [entry for entry in state.entries.values() if (entry.step, entry.digest) == (arrival.step, arrival.digest)]
    if known:
        return _once_more(state, known[-1], arrival)
    lineage = _lineage(state.entries.values(), arrival)
    data = {**asdict(arrival), "lineage": lineage}
    overwritten = [
        Event(Kind.CHANGED, entry.name, {"reason": "training overwrote it before it had been evaluated"})
        for entry in state.entries.values()
        if entry.place == arrival.place and entry.status in (CheckpointStatus.WAITING, CheckpointStatus.VANISHED)
    ]
    return [*overwritten, Event(Kind.FOUND, _name(state, arrival.step, lineage), data)]


def _once_more(state: State, entry: JournalEntry, arrival: Arrival) -> list[Event]:
    if entry.status is CheckpointStatus.VANISHED:
        return [Event(Kind.RETURNED, entry.name, {"place": arrival.place, "submission_id": arrival.submission_id})]
    unread = bool(arrival.submission_id) and arrival.submission_id not in state.submissions
    elsewhere = entry.place != arrival.place and (arrival.place, arrival.digest) not in state.refused
    if unread or elsewhere:
        data = {"place": arrival.place, "submission_id": arrival.submission_id, "signature": arrival.digest}
        data |= {name: getattr(arrival, name) for name in TOLD if getattr(arrival, name) is not None}
        return [Event(Kind.AGAIN, entry.name, data)]
    return []


def _lineage(entries: Iterable[JournalEntry], arrival: Arrival) -> int:
    by_lineage: dict[int, list[JournalEntry]] = {}
    for entry in entries:
        by_lineage.setdefault(entry.lineage, []).append(entry)
    if not by_lineage:
        return 1
    present = max(by_lineage)
    latest = max(by_lineage[present], key=lambda entry: entry.step)
    if arrival.step > latest.step:
        return present
    if arrival.written_ns > latest.written_ns:
        return present + 1
    # Found late, though written before the latest one: it belongs to whichever lineage was under way then.
    begun = [one for one in by_lineage if min(entry.written_ns for entry in by_lineage[one]) <= arrival.written_ns]
    return max(begun, default=1)


def _name(state: State, step: int, lineage: int) -> str:
    stem = f"step-{step:06d}" + (f"-r{lineage}" if lineage > 1 else "")
    names = [stem, *(f"{stem}-{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")]
    return next((name for name in names if name not in state.entries), f"{stem}-{len(state.entries)}")
