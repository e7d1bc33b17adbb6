"""What an evaluation is told and what it says at its end: plain data, which goes through files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.spec.suite import Video
from harness.strict_json import read_object


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How the checkpoints of a training run are evaluated, each in the same way."""

    out: str
    """Ledger of the training run."""
    suite: str
    """YAML text of the suite."""
    policy: str
    """What loads a checkpoint: "lerobot", "flow?dtype=bfloat16", "python:MODULE:FACTORY"."""
    marker: str | None = None
    """Name of the file that says that a checkpoint is complete, which is no part of its contents."""
    nfe: int | None = None
    workers: int | None = None
    """Rollout workers; None for as many as `cpus`, and without them for one per CPU."""
    address: str | None = None
    video: Video | None = None
    nice: int = 0
    cpus: tuple[int, ...] = ()
    gpu_memory_fraction: float | None = None

    @property
    def rollout_workers(self) -> int | None:
        """How many rollout workers; None for one per CPU of the machine."""
        return self.workers or len(self.cpus) or None


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """Which checkpoint to evaluate, and how."""

    name: str
    """Policy label in the ledger."""
    place: str
    """Path or URI of the checkpoint."""
    digest: str
    """Of its contents when it got its name."""
    options: EvaluationOptions
    gpus: str | None = None
    """Value of CUDA_VISIBLE_DEVICES; None leaves it alone."""
    cancel_file: str = ""
    result_file: str = ""
    scratch: str = ""
    """Folder for downloads of checkpoints."""

    @classmethod
    def read(cls, path: Path) -> EvaluationRequest:
        """Read a request from the JSON of its `asdict`.

        Raises:
            ValueError: The file holds something else.
        """
        data: dict[str, Any] = read_object(path.read_bytes())
        options = {**data["options"], "cpus": tuple(data["options"]["cpus"])}
        return cls(**{**data, "options": EvaluationOptions(**options)})


class End(StrEnum):
    """How an evaluation ended."""

    EVALUATED = "evaluated"
    """Every episode is in the ledger."""
    CANCELLED = "cancelled"
    """It gave way to a newer checkpoint."""
    INTERRUPTED = "interrupted"
    CHANGED = "changed"
    """The checkpoint's files are no longer those that got its name."""
    VANISHED = "vanished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What an evaluation says at its end."""

    end: End
    planned: int = 0
    held: int = 0
    """Episodes in the ledger."""
    errors: int = 0
    """Episodes that ended as errors in this evaluation."""
    error_type: str = ""
    message: str = ""


def read_outcome(data: Mapping[str, Any]) -> EvaluationResult:
    """An outcome from its file."""
    return EvaluationResult(**{**data, "end": End(data["end"])})
