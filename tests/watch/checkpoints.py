"""Checkpoints as training writes them: real safetensors files, LeRobot's folders, and a policy that loads them."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from harness.spec.observation import ActionChunks, PolicyInfo


def safetensors(value: float, n: int = 256) -> bytes:
    """A safetensors file with one float32 tensor of a constant."""
    data = np.full(n, value, dtype="<f4").tobytes()
    header = json.dumps({"weight": {"dtype": "F32", "shape": [n], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def write_checkpoint(root: Path, step: int, value: float = 1.0, *, written_s: float | None = None) -> Path:
    """Write `checkpoints/NNNNNN/pretrained_model` as LeRobot does; returns the model's folder.

    Args:
        root: Output folder of the training run.
        step: Training step.
        value: What the weights are: `Stepper` moves by that much.
        written_s: Time of the files, seconds since 1970; None for now.
    """
    model = root / "checkpoints" / f"{step:06d}" / "pretrained_model"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text(json.dumps({"type": "stepper"}))
    (model / "model.safetensors").write_bytes(safetensors(value))
    if written_s is not None:
        for file in model.iterdir():
            os.utime(file, (written_s, written_s))
    return model


def point_last(root: Path, step: int) -> None:
    """Point LeRobot's `last` link at a checkpoint."""
    link = root / "checkpoints" / "last"
    link.unlink(missing_ok=True)
    link.symlink_to(f"{step:06d}")


class Stepper:
    """Moves by its weights' value each step, so that larger values solve more episodes of the stub world."""

    def __init__(self, spec: Any) -> None:  # noqa: D107
        raw = (Path(str(spec.options["checkpoint"])) / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        self._value = float(np.frombuffer(raw[8 + length :], dtype="<f4")[0])
        self.info = PolicyInfo(spec.label, checkpoint=str(spec.options["checkpoint"]))

    def act(self, observations, noise, *, nfe=None):
        return ActionChunks(np.full((len(observations), 1, 7), self._value, dtype=np.float32))


class Fatal(Stepper):
    """Kills whatever process it is loaded in, as weights do that take more memory than there is."""

    def __init__(self, spec: Any) -> None:  # noqa: D107
        super().__init__(spec)
        if self._value < 0:
            raise ValueError("these weights are for another architecture")
