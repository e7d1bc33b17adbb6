"""What this machine can read of the checkpoint that a server is told to load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import PolicyError, UsageError
from harness.policies.lerobot_grpc.options import LerobotGrpcOptions
from harness.policies.servers.convention import Disagreement, require_agreement
from harness.spec.observation import ACTION_DIM

STATE_DIM = 8
REMEDY = "Serve a checkpoint for LIBERO, or name its cameras by the options image_key and wrist_key."


@dataclass(frozen=True, slots=True)
class Declared:
    """What is known before the server is asked."""

    policy_type: str
    cameras: tuple[str, ...]
    """Keys of its frames; empty where nothing is known."""
    sizes: tuple[tuple[int, int], ...] = ()
    """(height, width) that the server resizes to."""
    replan: int | None = None
    """`n_action_steps` of its configuration."""


def declared_by(options: LerobotGrpcOptions, sender: str) -> Declared:
    """Read the configuration of the checkpoint, where it lies on this machine, and hold it against what is sent.

    Raises:
        UsageError: Its type is not known here, so that the server cannot be told.
        PolicyError: It reads other cameras, another state or gives other actions; names both sides.
    """
    assert options.checkpoint is not None  # noqa: S101 - checked where options are read
    stored = _stored(Path(options.checkpoint))
    kind = options.policy_type or stored.get("type")
    if not isinstance(kind, str):
        raise UsageError(
            f"lerobot-grpc: the type of {options.checkpoint!r} cannot be read on this machine, and the server has to "
            "be told; add policy_type=, e.g. policy_type=act."
        )
    if not stored:
        return Declared(kind, ())
    frames = _features(stored.get("input_features"), "VISUAL")
    found = _disagreements(stored, frames, options)
    require_agreement(f"The checkpoint {options.checkpoint} for {sender}", found, REMEDY)
    sizes = tuple((shape[1], shape[2]) for shape in frames.values() if len(shape) == 3)
    steps = stored.get("n_action_steps")
    return Declared(kind, tuple(frames), sizes, steps if isinstance(steps, int) else None)


def _disagreements(
    stored: dict[str, Any], frames: dict[str, list[int]], options: LerobotGrpcOptions
) -> list[Disagreement]:
    found = []
    sent = {f"observation.images.{key}" for key in (options.image_key, options.wrist_key)}
    needed = {key for key in frames if "empty_camera" not in key}
    if not needed <= sent:
        found.append(Disagreement("cameras", ", ".join(sorted(needed)), ", ".join(sorted(sent))))
    for kind, entry, ours in (("STATE", "input_features", STATE_DIM), ("ACTION", "output_features", ACTION_DIM)):
        for key, shape in _features(stored.get(entry), kind).items():
            if shape != [ours]:
                found.append(Disagreement(f"shape of {key}", shape, [ours]))
    steps = stored.get("n_obs_steps", 1)
    if isinstance(steps, int) and steps > 1:
        found.append(Disagreement("observations of a decision", steps, "1 (LeRobot's server shows its policy one)"))
    return found


def _features(value: Any, kind: str) -> dict[str, list[int]]:
    if not isinstance(value, dict):
        return {}
    return {
        str(key): list(each.get("shape") or [])
        for key, each in value.items()
        if isinstance(each, dict) and each.get("type") == kind
    }


def _stored(folder: Path) -> dict[str, Any]:
    """The configuration in a folder; empty where there is none on this machine."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path} cannot be read ({error}).") from error
    return read if isinstance(read, dict) else {}
