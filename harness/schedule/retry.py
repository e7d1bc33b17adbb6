"""What to do about an episode that ended as an error. Pure: an error and an attempt go in, a decision comes out."""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Whose fault an error is: every error type has one."""

    POLICY = "policy"
    """What keyed noise and an exact simulator reproduce: a second attempt is a waste."""
    NODE = "node"
    """The machine's, as far as is known: another machine may succeed."""
    SERVER = "server"
    """The policy server's: it may be back by the next attempt."""
    RUN = "run"
    """Of a kind that the next episode would meet too."""


FAULTS = {
    "PolicyActionError": Fault.POLICY,
    "PolicyRaised": Fault.POLICY,
    "RenderError": Fault.NODE,
    "SimulatorError": Fault.NODE,
    "WorkerDied": Fault.NODE,
    "NodeLost": Fault.NODE,
    "EpisodeTimeout": Fault.NODE,
    "PolicyTimeout": Fault.SERVER,
    "PolicyServerDied": Fault.SERVER,
    "LedgerError": Fault.RUN,
    "NodeError": Fault.RUN,
    "PolicyChanged": Fault.RUN,
    "PolicyServerLost": Fault.RUN,
}
"""Error type → whose fault it is; of any other, the node's."""

REPRODUCED_THERE = frozenset({"RenderError"})
"""Errors that a node would meet again, but another need not."""


class Decision(Enum):
    """What happens to a unit after an error."""

    RETRY = "retry"
    """Run it again: the infrastructure failed, and another worker may succeed."""
    RECORD = "record"
    """Leave it an error: trying again would give the same."""
    ABORT = "abort"
    """Stop the run: no episode can succeed."""


def fault_of(error_type: str) -> Fault:
    """Whose fault an error is.

    Args:
        error_type: `episodes.error_type`, e.g. "WorkerDied", "PolicyTimeout", "PolicyActionError".
    """
    return FAULTS.get(error_type, Fault.NODE)


def decide(error_type: str, attempt: int, max_attempts: int, *, elsewhere: bool = False) -> Decision:
    """Decide about a failed attempt.

    Args:
        error_type: `episodes.error_type`.
        attempt: Which attempt failed, from 1.
        max_attempts: Attempts that an episode is given.
        elsewhere: Whether a node is left that the unit has not failed on.
    """
    fault = fault_of(error_type)
    if fault is Fault.RUN:
        return Decision.ABORT
    reproduced = fault is Fault.POLICY or (error_type in REPRODUCED_THERE and not elsewhere)
    return Decision.RECORD if reproduced or attempt >= max_attempts else Decision.RETRY
