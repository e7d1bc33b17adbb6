"""The folder through which training and evaluation speak: small JSON files that appear whole. Standard library only.

OUTBOX/submissions/TIME-ID.json   written by training, once each, and never touched again
OUTBOX/results.json               written by `harness watch --outbox OUTBOX`, replaced as results come in
"""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.strict_json import number, optional_number, read_object, text, whole

SUBMISSIONS = "submissions"
RESULTS = "results.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Submission:
    """A checkpoint that training wants evaluated."""

    submission_id: str
    """Unique; names the file, and sorts by time."""
    checkpoint: str
    """Absolute path, or a URI."""
    step: int
    submitted_at: float
    """Seconds since 1970, UTC."""
    gpu_hours: float | None = None
    """What training has taken up to it, GPU-hours; None where it was not told."""
    price: float | None = None
    """What that has cost, in the user's currency."""
    loss: float | None = None
    """Loss of training there."""


def new_submission(
    checkpoint: str | os.PathLike[str],
    step: int,
    now_s: float,
    *,
    gpu_hours: float | None = None,
    price: float | None = None,
    loss: float | None = None,
) -> Submission:
    """Describe a checkpoint that has been written to its end.

    Args:
        checkpoint: Path or URI.
        step: Training step, at least 0.
        now_s: Seconds since 1970.
        gpu_hours: See `Submission`.
        price: See `Submission`.
        loss: See `Submission`.

    Raises:
        ValueError: The step is no whole number, or negative; or a cost is no finite number of at least 0.
    """
    for name, value in (("gpu_hours", gpu_hours), ("price", price)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value!r}; it has to be a finite number of at least 0")
    if isinstance(step, bool) or int(step) != step or step < 0:
        raise ValueError(f"step is {step!r}; it has to be a whole number of at least 0")
    text = os.fspath(checkpoint)
    place = text if "://" in text else os.path.abspath(os.path.expanduser(text))
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_s))
    identifier = f"{stamp}.{int(now_s % 1 * 1e6):06d}Z-{uuid.uuid4().hex[:8]}"
    told = None if loss is None or not math.isfinite(loss) else float(loss)
    return Submission(identifier, place, int(step), now_s, gpu_hours, price, told)


def write_submission(outbox: Path, submission: Submission) -> Path:
    """Write a submission so that it appears whole; it survives the death of this process once this returns.

    Raises:
        OSError: The folder cannot be written.
    """
    folder = outbox / SUBMISSIONS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{submission.submission_id}.json"
    write_json(path, {"format_version": FORMAT_VERSION, **asdict(submission)})
    return path


def read_submissions(outbox: Path) -> tuple[list[Submission], list[tuple[str, str]]]:
    """Read every submission, oldest first.

    Returns:
        The submissions, and (file, what is wrong with it) for files that are none.
    """
    found: list[Submission] = []
    faults: list[tuple[str, str]] = []
    try:
        paths = sorted((outbox / SUBMISSIONS).glob("*.json"))
    except OSError as error:
        return [], [(str(outbox), f"cannot be listed ({error.strerror})")]
    for path in paths:
        try:
            found.append(_parse(read_object(path.read_bytes())))
        except (OSError, ValueError) as error:
            faults.append((str(path), f"is no submission ({error})"))
    return found, faults


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file that readers see whole or not at all.

    Raises:
        OSError: It cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_text(json.dumps(data) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_results(outbox: Path) -> dict[str, Any]:
    """What the watcher has found so far; empty before its first result.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no JSON object.
    """
    try:
        return read_object((outbox / RESULTS).read_bytes(), finite=False)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{outbox / RESULTS} cannot be read: {error}") from error


def _parse(data: Mapping[str, Any]) -> Submission:
    if (version := whole(data, "format_version")) != FORMAT_VERSION:
        raise ValueError(f"format version {version}, this harness reads {FORMAT_VERSION}")
    return Submission(
        text(data, "submission_id"),
        text(data, "checkpoint"),
        whole(data, "step"),
        number(data, "submitted_at"),
        *(optional_number(data, name) for name in ("gpu_hours", "price", "loss")),
    )
