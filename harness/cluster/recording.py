"""Recording a run's episodes: what is asked, what is checked before, and the dataset made at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UsageError
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.rollout.dataset import Dataset, require_new, write_dataset
from harness.rollout.episode_parts import read_parts
from harness.schedule.units import EpisodeUnit
from harness.spec import Suite

RECORDED = ("libero", "stub")
"""Worlds whose observations and actions fit the layout of datasets."""

TEST_SET = (
    "warning: these demonstrations begin at LIBERO's stored init states, which are its test set; train on "
    "demonstrations of sampled placements (--placements sampled --episodes N)."
)


@dataclass(frozen=True, slots=True)
class Recording:
    """Where demonstrations go."""

    directory: str
    """Local directory of the dataset."""
    keep_failures: bool = False
    """Whether episodes that ran out of steps are kept; errors never are."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Outcomes that are recorded."""
        return ("success", "timeout") if self.keep_failures else ("success",)


def check_recording(recording: Recording, suite: Suite) -> Recording:
    """Check a request to record.

    Returns:
        The same with an absolute path: workers have another working directory.

    Raises:
        UsageError: A dataset is there already, the directory is not local, or several policies or NFE values would be
            mixed in one dataset; or a world whose episodes do not fit the layout.
    """
    if suite.world not in RECORDED:
        raise UsageError(
            f"Demonstrations are recorded in LIBERO's layout, not in that of world {suite.world!r}; "
            "run without --record."
        )
    require_new(recording.directory)
    if len(suite.policies) != 1 or len(suite.nfe) > 1:
        labels = ", ".join(policy.label for policy in suite.policies)
        raise UsageError(
            f"A dataset is recorded from one policy at one NFE, but this run has {labels or 'none'} at "
            f"{', '.join(map(str, suite.nfe)) or 'its default'}; run them apart."
        )
    return Recording(str(Path(recording.directory).expanduser().absolute()), recording.keep_failures)


def check_parts(recording: Recording, plan: Sequence[EpisodeUnit]) -> None:
    """Refuse a directory with episodes of another run.

    Raises:
        UsageError: It holds episodes that are not planned.
    """
    strangers = _recorded(recording) - {unit.episode_key for unit in plan}
    if strangers:
        raise UsageError(
            f"{recording.directory} holds {len(strangers)} episodes that are not of this run (another suite or "
            "protocol); give --record another directory, or delete its folder `parts`."
        )


def finish_recording(
    recording: Recording, out: str, plan: Collection[EpisodeUnit], provenance: Mapping[str, Any]
) -> Dataset:
    """Make the dataset of a finished run.

    Args:
        recording: Folder of the dataset, and whether failures are kept.
        out: The run's ledger, which says what has to be there.
        plan: The run's episodes.
        provenance: What the dataset says of its origin.

    Raises:
        HarnessError: Episodes of the ledger are not among the recorded ones: they ran without --record.
        UsageError: Nothing was recorded.
    """
    keys = {unit.episode_key for unit in plan}
    rows = read_rows(Location.of(out), "episodes", ["episode_key", "outcome"])
    wanted = {row["episode_key"] for row in rows if row["outcome"] in recording.outcomes} & keys
    lacking = wanted - _recorded(recording)
    if lacking:
        raise HarnessError(
            f"{len(lacking)} of {len(wanted)} episodes in {out} were run without being recorded in "
            f"{recording.directory}; record with a new --out."
        )
    return write_dataset(recording.directory, provenance)


def _recorded(recording: Recording) -> set[str]:
    return {str(part.facts["episode_key"]) for part in read_parts(recording.directory)}
