"""What a checkpoint tells of its training, and whether that jumped: a resume that restored less than it should."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.watch.checkpoints.discovery import MODEL
from harness.watch.checkpoints.files import Tree, open_tree

STATE = "training_state"
"""LeRobot's folder beside `pretrained_model`."""
GROUPS, OPTIMIZER = "optimizer_param_groups.json", "optimizer_state.safetensors"
HISTORY = 8
"""Checkpoints before the new one that are looked at."""

MOST_LOSS = 1.5
"""A loss is a jump when it exceeds the largest of the checkpoints before it by more than this factor."""
MOST_RATE = 1.1
"""After the warm-up a learning rate only falls; a rise by more than this factor is a jump."""
STEP_SHARE = 0.05
"""Share of the expected steps that the optimizer's own count may be off: skipped updates of mixed precision."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Training at a checkpoint; None of what is not known."""

    step: int
    learning_rate: float | None = None
    """Largest of the optimizer's groups."""
    optimizer_steps: float | None = None
    """Updates that the optimizer counts itself (Adam's `step`): begins anew when its state is not restored."""
    loss: float | None = None


def read_training_state(place: str, step: int, loss: float | None = None) -> TrainingState:
    """Read what LeRobot keeps beside a checkpoint; what is not there or cannot be read is not known."""
    folder, _, name = place.rstrip("/").rpartition("/")
    tree = open_tree(folder if name == MODEL else place)
    try:
        with tree.open(f"{STATE}/{GROUPS}") as stream:
            groups = json.loads(stream.read())
        rates = [float(group["lr"]) for group in groups if "lr" in group]
    except (OSError, ValueError, TypeError, KeyError):
        rates = []
    return TrainingState(step, max(rates, default=None), _optimizer_steps(tree), loss)


def _optimizer_steps(tree: Tree) -> float | None:
    """The first parameter's count of updates, from the header and four bytes of the file."""
    try:
        with tree.open(f"{STATE}/{OPTIMIZER}") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(length))
            entry = next(value for key, value in header.items() if key.startswith("state/") and key.endswith("/step"))
            stream.seek(8 + length + entry["data_offsets"][0])
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            kinds = {("F32", 4): "<f", ("F64", 8): "<d", ("I64", 8): "<q", ("I32", 4): "<i"}
            return float(struct.unpack(kinds[entry["dtype"], size], stream.read(size))[0])
    except (OSError, ValueError, TypeError, KeyError, StopIteration, struct.error):
        return None


def jumps(history: Sequence[TrainingState], now: TrainingState) -> list[str]:
    """What a checkpoint shows that training which simply went on would not show, one sentence each. Pure.

    Args:
        history: Checkpoints before it, by step.
        now: The checkpoint.
    """
    return [said for said in (_of_optimizer(history, now), _of_rate(history, now), _of_loss(history, now)) if said]


def _of_optimizer(history: Sequence[TrainingState], now: TrainingState) -> str | None:
    known = [one for one in history if one.optimizer_steps]
    if not known or now.optimizer_steps is None:
        return None
    last = known[-1]
    # Of the checkpoint before, which may have been reset itself: updates a step, as the first one shows them.
    a_step = (known[0].optimizer_steps or 0.0) / max(known[0].step, 1)
    expected = a_step * (now.step - last.step)
    gained = now.optimizer_steps - (last.optimizer_steps or 0.0)
    if abs(gained - expected) <= max(1.0, STEP_SHARE * expected):
        return None
    return (
        f"the optimizer counts {now.optimizer_steps:,.0f} updates at step {now.step:,}, after "
        f"{last.optimizer_steps:,.0f} at step {last.step:,}: its state was not restored when training resumed"
    )


def _of_rate(history: Sequence[TrainingState], now: TrainingState) -> str | None:
    known = [one.learning_rate for one in history if one.learning_rate is not None]
    if not known or now.learning_rate is None:
        return None
    falling = known[-1] < max(known)
    if not (falling and now.learning_rate > MOST_RATE * known[-1]):
        return None
    return (
        f"the learning rate rose from {known[-1]:.3g} to {now.learning_rate:.3g} after it had begun to fall: the "
        "schedule was not restored when training resumed"
    )


def _of_loss(history: Sequence[TrainingState], now: TrainingState) -> str | None:
    known = [one.loss for one in history if one.loss is not None]
    if len(known) < 2 or now.loss is None or now.loss <= MOST_LOSS * max(known[-3:]):
        return None
    return f"the loss jumped from {known[-1]:.3g} to {now.loss:.3g}"
