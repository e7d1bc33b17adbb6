"""LeRobot's training hands its checkpoints over: it has no callbacks, so its last word on each is wrapped."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from harness.watch.training.client import EvalClient

TRAIN = "lerobot.scripts.lerobot_train"
LAST_STEP = "update_last_checkpoint"
"""Called on rank 0 alone, with the folder of a checkpoint that has been written to its end."""
MODEL = "pretrained_model"

log = logging.getLogger("harness.watch")


def submit_checkpoints(client: EvalClient, train: Any = None) -> bool:
    """Have LeRobot's training submit every checkpoint once it is written. Call it on every rank, before training.

    Made for LeRobot 0.6: `lerobot_train` calls `update_last_checkpoint(checkpoint_dir)` on the main process after
    `save_checkpoint`. Nothing else is touched, and a LeRobot without that function is trained without submissions.

    Args:
        client: Client whose outbox checkpoints are submitted to.
        train: The module whose function is wrapped; None for LeRobot's own.

    Returns:
        Whether the loop was found; False is logged.
    """
    if train is None:
        import importlib

        train = importlib.import_module(TRAIN)
    original = getattr(train, LAST_STEP, None)
    if original is None:
        log.warning(
            "%s has no %s: this LeRobot saves checkpoints in another way, and none will be submitted. "
            "`harness watch DIR` finds them without a client.",
            TRAIN,
            LAST_STEP,
        )
        return False

    def update_and_submit(checkpoint_dir: Path, *args: Any, **options: Any) -> Any:
        result = original(checkpoint_dir, *args, **options)
        name = Path(checkpoint_dir).name
        if name.isdigit():
            client.submit(Path(checkpoint_dir) / MODEL, int(name))
        return result

    setattr(train, LAST_STEP, update_and_submit)
    return True
