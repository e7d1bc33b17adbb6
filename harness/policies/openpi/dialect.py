"""How a server of another project is spoken to: names of keys, size of frames, and whether what it declares fits.

openpi's own servers declare nothing that is checked here. vLLM-Omni's (`/v1/realtime/robot/openpi`), and servers of
RoboLab's kind, send `image_resolution`, `n_external_cameras`, `needs_wrist_camera`, `needs_stereo_camera`,
`needs_session_id`, `action_space` and `action_dim` first. Source: vllm-project/vllm-omni,
vllm_omni/entrypoints/openpi/serving.py (`PolicyServerConfig`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.policies.openpi.options import OpenpiOptions
from harness.policies.servers.convention import (
    ACTION_CONVENTION,
    STATE_LAYOUT,
    Convention,
    Disagreement,
    require_agreement,
    resized,
)
from harness.spec.observation import ACTION_DIM, Observation

STATE_DIM = 8
REMEDY = (
    "Serve a checkpoint for LIBERO, or name what is right by the options image_size, padded (numbers behind the "
    "seventh are padding) or declared=ignore (what the server declares is not true of this checkpoint)."
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What goes to one server."""

    keys: Mapping[str, str]
    """Camera → key."""
    state_key: str
    prompt_key: str
    session: bool
    """Whether the server wants to know which episode a question is of."""
    convention: Convention

    def encode(self, seen: Observation) -> dict[str, Any]:
        """One question."""
        size = self.convention.image_size
        message: dict[str, Any] = {self.keys[camera]: resized(frame, size) for camera, frame in seen.images.items()}
        message |= {self.state_key: seen.state, self.prompt_key: seen.instruction}
        return message | ({"session_id": seen.episode_key} if self.session else {})


def dialect_of(metadata: Mapping[str, Any], options: OpenpiOptions, sender: str = "The server") -> Dialect:
    """How to speak to a server, by its metadata and what the user says.

    Args:
        metadata: Its first message.
        options: The policy's.
        sender: The server, for messages.

    Raises:
        PolicyError: It declares another robot, or another size than the user; one message names both sides.
    """
    declared = _size(metadata.get("image_resolution"))
    asked = None if options.image_size is None else (options.image_size, options.image_size)
    if options.declared == "require":
        require_agreement(sender, _found(metadata, options, declared, asked), REMEDY)
    size = asked or (declared if options.declared == "require" else None)
    keys = {"agentview": options.image_key, "robot0_eye_in_hand": options.wrist_key}
    told = f"{keys['agentview']} and {keys['robot0_eye_in_hand']}, uint8 RGB"
    return Dialect(keys, options.state_key, options.prompt_key, bool(metadata.get("needs_session_id")), Convention(
        told, size, state=f"{STATE_LAYOUT}, as {options.state_key}",
        actions=f"{ACTION_CONVENTION}{', further numbers are padding' if options.padded else ''}",
    ))  # fmt: skip


def _found(
    metadata: Mapping[str, Any], options: OpenpiOptions, size: tuple[int, int] | None, asked: tuple[int, int] | None
) -> list[Disagreement]:
    """What a server declares otherwise; a key that it does not send, or sends in another form, declares nothing."""
    found = []
    if size is not None and asked is not None and size != asked:
        found.append(Disagreement("size of frames", f"{size[0]}×{size[1]}", f"{asked[0]}×{asked[1]} (image_size)"))
    for key, most in (("action_dim", ACTION_DIM), ("state_dim", STATE_DIM)):
        value = metadata.get(key)
        if isinstance(value, int) and value != most and not (options.padded and value > most):
            found.append(Disagreement(key, value, most))
    space = metadata.get("action_space")
    if isinstance(space, str) and "joint" in space:
        found.append(Disagreement("action_space", repr(space), f"{options.control_mode} end-effector poses"))
    external = metadata.get("n_external_cameras")
    if isinstance(external, int) and external > 1:
        found.append(Disagreement("external cameras", external, 1))
    if metadata.get("needs_stereo_camera") is True:
        found.append(Disagreement("stereo cameras", "needed", "none"))
    return found


def _size(value: Any) -> tuple[int, int] | None:
    """(height, width) that a server declares; None where it declares none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    if not isinstance(value, list | tuple) or len(value) != 2 or any(type(each) is not int for each in value):
        return None
    height, width = value
    return (height, width) if 16 <= height <= 4096 and 16 <= width <= 4096 else None
