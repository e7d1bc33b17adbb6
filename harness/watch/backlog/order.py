"""Which checkpoint comes next, which gives way, which is left out. Pure: known checkpoints in, a choice out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.watch.backlog.journal import JournalEntry


class BacklogOrder(StrEnum):
    """What to do when checkpoints arrive faster than they can be evaluated."""

    NEWEST = "newest"
    """The newest first; older ones whenever nothing newer waits."""
    ALL = "all"
    """In the order of training."""
    BISECT = "bisect"
    """The newest, then whatever halves the largest gap between evaluated steps: coarse soon, fine later."""


def choose(
    waiting: Sequence[JournalEntry], settled: Sequence[JournalEntry], order: BacklogOrder
) -> JournalEntry | None:
    """Choose the next checkpoint.

    Args:
        waiting: Checkpoints that are to be evaluated.
        settled: Checkpoints that have their result.
        order: Newest first, in the order of training, or by halving gaps.

    Returns:
        One of `waiting`; None when nothing waits.
    """
    if not waiting:
        return None
    if order is BacklogOrder.ALL:
        return min(waiting, key=lambda entry: entry.position)
    newest = max(waiting, key=lambda entry: entry.position)
    if order is BacklogOrder.NEWEST:
        return newest
    done = [entry.step for entry in settled if entry.lineage == newest.lineage]
    if not done or newest.step > max(done):
        return newest
    own = [entry for entry in waiting if entry.lineage == newest.lineage]
    return max(own, key=lambda entry: (min(abs(entry.step - step) for step in done), entry.step))


def supersedes(
    running: JournalEntry, waiting: Sequence[JournalEntry], order: BacklogOrder, *, cancel: bool
) -> JournalEntry | None:
    """The newer checkpoint to which a running one gives way with its queued episodes.

    Args:
        running: What is being evaluated.
        waiting: Checkpoints that are to be evaluated.
        order: The policy; only "newest" lets anything be cancelled.
        cancel: Whether cancelling is allowed.

    Returns:
        The newest one that waits, if it is newer than `running`.
    """
    newer = [entry for entry in waiting if entry.position > running.position]
    if not cancel or order is not BacklogOrder.NEWEST or not newer:
        return None
    return max(newer, key=lambda entry: entry.position)


def overflow(
    waiting: Sequence[JournalEntry], settled: Sequence[JournalEntry], order: BacklogOrder, limit: int | None
) -> list[JournalEntry]:
    """Checkpoints that will not be evaluated because more than `limit` wait: those that would have come last.

    Args:
        waiting: Checkpoints that are to be evaluated.
        settled: What has its result.
        order: Which of them would come first.
        limit: Most checkpoints that may wait; None for any number.
    """
    if limit is None:
        return []
    left, kept = list(waiting), list(settled)
    for _ in range(limit):
        chosen = choose(left, kept, order)
        if chosen is None:
            return []
        left.remove(chosen)
        kept.append(chosen)
    return sorted(left, key=lambda entry: entry.position)
