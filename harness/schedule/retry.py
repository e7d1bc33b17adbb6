"""What to do about an episode that ended as an error. Pure: an error and an attempt go in, a decision comes out."""

from __future__ import annotations

from enum import Enum


class Decision(Enum):
    """What happens to a unit after an error."""

    RETRY = "retry"
    """Run it again: the infrastructure failed, and another worker may succeed."""
    RECORD = "record"
    """Write it to the ledger as an error: trying again would give the same."""
    ABORT = "abort"
    """Stop the run: no episode can succeed."""


DETERMINISTIC = frozenset({"PolicyActionError", "PolicyRaised", "RenderError"})
"""Errors that keyed noise and an exact simulator reproduce: a second attempt is a waste."""

FATAL = frozenset({"LedgerError", "NodeError", "PolicyChanged", "PolicyServerLost"})
"""Errors that the next episode would meet too."""


def decide(error_type: str, attempt: int, max_attempts: int) -> Decision:
    """Decide about a failed attempt.

    Args:
        error_type: `episodes.error_type`, e.g. "WorkerDied", "PolicyTimeout", "PolicyActionError".
        attempt: Which attempt failed, from 1.
        max_attempts: Attempts that an episode is given.
    """
    if error_type in FATAL:
        return Decision.ABORT
    if error_type in DETERMINISTIC or attempt >= max_attempts:
        return Decision.RECORD
    return Decision.RETRY
