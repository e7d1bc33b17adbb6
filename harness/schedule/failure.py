"""What to do when a worker dies or hangs. Pure; episodes themselves are judged by `harness.schedule.retry`."""

from __future__ import annotations

from enum import Enum


class Restart(Enum):
    """What becomes of a lost worker's place."""

    REPLACE = "replace"
    """Start another worker."""
    GIVE_UP = "give_up"
    """Workers die without finishing anything: stop the run."""


def decide_restart(losses_in_a_row: int, n_workers: int, max_attempts: int) -> Restart:
    """Decide about a lost worker.

    One episode may kill its worker `max_attempts` times before it is recorded as an error, and every other worker may
    be unlucky once; beyond that nothing has come back for so long that nothing will.

    Args:
        losses_in_a_row: Workers lost since an episode last came back, this one included.
        n_workers: Workers of the run.
        max_attempts: Attempts that an episode is given.
    """
    return Restart.GIVE_UP if losses_in_a_row > 2 * n_workers + max_attempts else Restart.REPLACE
