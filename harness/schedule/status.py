"""The states of a run, as `runs.status` holds them."""

from __future__ import annotations

from enum import StrEnum


class RunStatus(StrEnum):
    """Where a run is. It begins `RUNNING`, and every other state is its last."""

    RUNNING = "running"
    """The ledger is its own and rows come in; for ever, if its driver was killed by SIGKILL."""
    FINISHED = "finished"
    """Every episode of the plan is in the ledger, and the probes have been made."""
    STOPPED = "stopped"
    """Early stopping had seen enough."""
    SUPERSEDED = "superseded"
    """It gave way to a newer checkpoint."""
    INTERRUPTED = "interrupted"
    """Ctrl-C, SIGTERM or SIGHUP: `--resume` runs the rest."""
    FAILED = "failed"
    """It was useless to go on: `--resume` tries again."""
    IMPORTED = "imported"
    """Its rows come from a file of results."""

    @property
    def resumable(self) -> bool:
        """Whether episodes of the plan are missing that another try may bring."""
        return self in (RunStatus.RUNNING, RunStatus.INTERRUPTED, RunStatus.FAILED)
