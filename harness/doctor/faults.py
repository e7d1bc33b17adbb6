"""The mistakes by which a good policy scores 0 %: what each does to an observation or to an answer, and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.spec.observation import CAMERAS, Observation

Frame = NDArray[np.uint8]
Actions = NDArray[np.float32]
"""Shape (N, T, 7)."""


@dataclass(frozen=True, slots=True)
class InputFault:
    """One mistake."""

    cause: str
    """What is wrong, as a person would say it."""
    remedy: str
    see: Callable[[Observation], Observation] = lambda seen: seen
    """What a policy sees in place of an observation."""
    answer: Callable[[Actions], Actions] = lambda actions: actions
    """What comes back in place of its actions."""


ORIENTATION = (
    "check protocol.image_orientation, and flips in the checkpoint's own preprocessing: LIBERO fine-tunes want "
)
ORIENTATION += "frames turned by 180 degrees, once"
STATE = "order the state as end-effector position (3), axis-angle (3), gripper (2)"
_BLOCKS: Mapping[str, tuple[int, ...]] = {
    "position": (0, 1, 2),
    "rotation": (3, 4, 5),
    "gripper": (6, 7),
}


def _frames(change: Callable[[Frame], Frame]) -> Callable[[Observation], Observation]:
    def see(seen: Observation) -> Observation:
        pictures = {camera: np.ascontiguousarray(change(frame)) for camera, frame in seen.images.items()}
        return replace(seen, images=pictures)

    return see


def _swap_cameras(seen: Observation) -> Observation:
    third, wrist = CAMERAS
    if not {third, wrist} <= set(seen.images):
        return seen
    return replace(seen, images={**seen.images, third: seen.images[wrist], wrist: seen.images[third]})


def coarse(size: int) -> Callable[[Frame], Frame]:
    """A frame as if it had been rendered at `size` pixels: averaged, and blown up again."""

    def change(frame: Frame) -> Frame:
        factor = len(frame) // size
        if factor < 2 or len(frame) % size:
            return frame
        small = frame.reshape(size, factor, size, factor, 3).mean(axis=(1, 3))
        blown: Frame = np.rint(small).astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
        return blown

    return change


def _reorder(*names: str) -> Callable[[Observation], Observation]:
    order = [index for name in names for index in _BLOCKS[name]]
    return lambda seen: replace(seen, state=seen.state[order])


def _flip_gripper(actions: Actions) -> Actions:
    flipped: Actions = actions * np.array([1, 1, 1, 1, 1, 1, -1], dtype=np.float32)
    return flipped


def _state_order(*names: str) -> InputFault:
    return InputFault(f"state in the wrong order ({', '.join(names)})", STATE, see=_reorder(*names))


FAULTS: Mapping[str, InputFault] = {
    "upside_down": InputFault(
        "images upside down (turned by 180 degrees)", ORIENTATION, see=_frames(lambda f: f[::-1, ::-1])
    ),
    "flipped": InputFault("images flipped top to bottom", ORIENTATION, see=_frames(lambda f: f[::-1])),
    "mirrored": InputFault("images mirrored left to right", ORIENTATION, see=_frames(lambda f: f[:, ::-1])),
    "swapped": InputFault(
        "cameras swapped",
        "map agentview to the third-person camera and robot0_eye_in_hand to the wrist's",
        see=_swap_cameras,
    ),
    "resolution_64": InputFault(
        "wrong resolution (64 pixels)",
        "render at the protocol's 256 pixels and let the policy resize",
        see=_frames(coarse(64)),
    ),
    "resolution_32": InputFault(
        "wrong resolution (32 pixels)",
        "render at the protocol's 256 pixels and let the policy resize",
        see=_frames(coarse(32)),
    ),
    "channels": InputFault(
        "colour channels reversed (BGR)", "hand frames over as RGB", see=_frames(lambda f: f[..., ::-1])
    ),
    "black": InputFault(
        "images black",
        "check the range that preprocessing expects: 0 to 255, or 0 to 1",
        see=_frames(lambda f: f * np.uint8(0)),
    ),
    "state_rpg": _state_order("rotation", "position", "gripper"),
    "state_gpr": _state_order("gripper", "position", "rotation"),
    "state_grp": _state_order("gripper", "rotation", "position"),
    "state_pgr": _state_order("position", "gripper", "rotation"),
    "state_rgp": _state_order("rotation", "gripper", "position"),
    "state_missing": InputFault(
        "state missing (all zero)", STATE, see=lambda seen: replace(seen, state=seen.state * 0)
    ),
    "instruction": InputFault(
        "instruction missing",
        "hand the task's instruction over as it is",
        see=lambda seen: replace(seen, instruction=""),
    ),
    "gripper": InputFault("gripper sign reversed", "LIBERO opens at -1 and closes at 1", answer=_flip_gripper),
}
"""Fault by name. Names are in files beside checkpoints, so they stay."""
