"""Options of `harness run` that make demonstrations."""

from __future__ import annotations

import importlib.util
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError
from harness.screen import Screen
from harness.spec.protocol import Instruction, Placements

if TYPE_CHECKING:
    from harness.cluster.recording import Recording
    from harness.cluster.run import RunResult
    from harness.spec import Suite


Failures = Literal["keep", "drop"]
"""Values of --record-failures."""


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """What the options amount to."""

    suite: Suite
    """With placements, noise and episodes as asked."""
    target: Recording | None
    options: str
    """The options again, for the command that resumes."""


def record_request(
    suite: Suite,
    episodes: int | None,
    placements: Placements | None,
    record: Path | None,
    failures: Failures,
    noise: float,
    instruction: Instruction | None = None,
) -> RecordRequest:
    """Apply the options to a suite.

    Raises:
        UsageError: Options of --record without it.
        SpecError: Sampled placements without a number of episodes.
    """
    from harness.cluster.recording import Recording
    from harness.spec.changes import SuiteChanges

    if record is None and (noise or failures != "drop"):
        raise UsageError("--record-noise and --record-failures say how to record: say where with --record DIR.")
    changes = SuiteChanges(episodes=episodes, placements=placements, action_noise=noise, instruction=instruction)
    target = Recording(str(record), failures == "keep") if record is not None else None
    given = {
        "--episodes": episodes,
        "--placements": placements,
        "--instruction": instruction,
        "--record": record,
        "--record-failures": failures if target and target.keep_failures else None,
        "--record-noise": noise or None,
    }
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    return RecordRequest(changes.apply(suite), target, f" {shlex.join(options)}" if options else "")


def report_recorded(result: RunResult, screen: Screen) -> None:
    """Say what was recorded, and have LeRobot read it where it is installed."""
    from harness.rollout.dataset import verify

    made = result.recorded
    if made is None:
        return
    text = f"Dataset: {made.directory} ({made.episodes} episodes, {made.frames} frames, {made.tasks} tasks)"
    if importlib.util.find_spec("lerobot") is not None:
        verify(made.directory)
        text += ", which LeRobot reads"
    screen.say(text)
