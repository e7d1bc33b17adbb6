"""What a client sends and expects, in words, and whether a server declares something else.

A wrong convention is the most usual reason for a success of 0 %: frames upside down, another size, a state of another
layout, a gripper that opens where it should close. So each client states its own, which stands with the policy's
provenance in every ledger, and what a server declares is held against it before the first decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.spec.observation import ACTION_DIM, ActionChunks, RemoteTiming

STATE_LAYOUT = "8 numbers: end-effector position (3, m), axis-angle (3, rad), gripper positions (2, m)"
ACTION_CONVENTION = "(T, 7): position (3), axis-angle (3), gripper (-1 opens, +1 closes)"


@dataclass(frozen=True, slots=True)
class Convention:
    """One client's side of the agreement."""

    images: str
    """Which cameras under which names, and their encoding."""
    image_size: tuple[int, int] | None = None
    """(height, width) that frames are resized to, with padding; None: as the protocol renders them."""
    orientation: str = "as the protocol's image_orientation (rotated_180: upright)"
    """How frames are turned."""
    state: str = STATE_LAYOUT
    """Layout of the proprioception."""
    actions: str = ACTION_CONVENTION
    """What an answer is taken for."""

    def record(self) -> dict[str, str]:
        """For a policy's provenance."""
        size = "as the protocol renders" if self.image_size is None else f"{self.image_size[0]}×{self.image_size[1]}"
        return {
            "sends_images": self.images,
            "sends_image_size": size,
            "sends_orientation": self.orientation,
            "sends_state": self.state,
            "expects_actions": self.actions,
        }


class Disagreement(NamedTuple):
    """One thing that a server declares otherwise."""

    what: str
    server: Any
    client: Any


def require_agreement(sender: str, found: Sequence[Disagreement], remedy: str) -> None:
    """Refuse a server that declares another convention.

    Args:
        sender: The server.
        found: What it declares otherwise; empty: nothing.
        remedy: What to do about it.

    Raises:
        PolicyError: One message that names both sides of everything.
    """
    if not found:
        return
    told = "; ".join(f"{each.what}: it declares {each.server}, this client has {each.client}" for each in found)
    raise PolicyError(f"{sender} and this client do not fit. {told}. {remedy}")


def resized(frame: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A frame in another size, its aspect kept and the rest black, as openpi's client does it (PIL, bilinear).

    Args:
        frame: Shape (H, W, 3).
        size: (height, width); None leaves it as it is.
    """
    if size is None or frame.shape[:2] == size:
        return np.ascontiguousarray(frame)
    from PIL import Image

    height, width = size
    scale = min(height / frame.shape[0], width / frame.shape[1])
    inner = (max(1, int(frame.shape[1] * scale)), max(1, int(frame.shape[0] * scale)))
    picture = Image.fromarray(frame).resize(inner, resample=Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(picture, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(canvas)


def chunk_of(value: Any, length: int | None, sender: str, *, padded: bool = False) -> NDArray[np.float32]:
    """The chunk in an answer.

    Args:
        value: What stands where actions are expected.
        length: T; None when it is not known yet.
        sender: The server, for the message of an error.
        padded: Whether numbers behind the seventh are padding.

    Returns:
        Shape (T, 7).

    Raises:
        PolicyError: It is no chunk of this robot's actions.
    """
    try:
        actions = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise PolicyError(f"{sender} answered actions that are no array ({error}).") from error
    if padded and actions.ndim == 2 and actions.shape[1] > ACTION_DIM:
        actions = actions[:, :ACTION_DIM]
    fits = actions.ndim == 2 and actions.shape[1] == ACTION_DIM and len(actions) == (length or len(actions)) > 0
    if not fits or actions.dtype.kind not in "iuf":
        raise PolicyError(
            f"{sender} answered actions of shape {actions.shape} and dtype {actions.dtype}, not "
            f"({length or 'T'}, {ACTION_DIM}) numbers; it serves another robot, or another policy than before."
        )
    return actions.astype(np.float32)


def one_chunk(answers: Sequence[tuple[NDArray[np.float32], RemoteTiming]]) -> ActionChunks:
    """Several answers as a policy gives them; a timing only where it is one decision's."""
    timing = answers[0][1] if len(answers) == 1 else None
    return ActionChunks(np.stack([actions for actions, _ in answers]), timing)
