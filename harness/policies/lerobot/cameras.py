"""Which LIBERO camera goes under which image key of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import PolicyError, UsageError
from harness.policies.lerobot.families import CAMERA_ALIASES, LIBERO_KEYS

_FURTHER = re.compile(r"camera([3-9]|[1-9]\d+)")
"""Names of cameras beyond LIBERO's two."""


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """How frames reach the policy."""

    keys: Mapping[str, str]
    """Camera → key in the batch. Only cameras that are read."""
    stored: bool = True
    """Whether the preprocessor's own rename step still applies to these keys; else it has to be emptied."""
    masked: tuple[str, ...] = ()
    """Image keys of the policy that stay empty: it pads and masks them."""
    warnings: tuple[str, ...] = ()


def plan_cameras(
    wanted: Sequence[str], stored_renames: Mapping[str, str], asked: Mapping[str, str], *, checkpoint: str
) -> CameraPlan:
    """Decide where each camera goes.

    The order of authority: the user's `rename`, the checkpoint's own rename step over LeRobot's LIBERO keys, then the
    names that LIBERO fine-tunes are known to use, with a warning.

    Args:
        wanted: Image keys of the policy's configuration.
        stored_renames: The rename map of the checkpoint's preprocessor: incoming key → policy key.
        asked: The user's map: camera → policy key. LIBERO's two, or "camera3", "camera4", … for a latency probe.
        checkpoint: Its name, for messages.

    Raises:
        UsageError: The user's map names no camera, or a key that the policy lacks.
        PolicyError: A camera that the policy wants cannot be told from its name, or LIBERO lacks it.
    """
    needed = [key for key in wanted if ".empty_camera_" not in key]
    empty = tuple(key for key in wanted if key not in needed)
    if asked:
        return _asked(needed, empty, asked)
    incoming = {camera: key for camera, key in LIBERO_KEYS.items() if stored_renames.get(key, key) in needed}
    if {stored_renames.get(key, key) for key in incoming.values()} == set(needed):
        return CameraPlan(incoming, masked=empty)
    return _by_name(needed, empty, checkpoint)


def _asked(needed: Sequence[str], empty: tuple[str, ...], asked: Mapping[str, str]) -> CameraPlan:
    for camera, key in asked.items():
        if camera not in LIBERO_KEYS and not _FURTHER.fullmatch(camera):
            raise UsageError(
                f"lerobot: rename names camera {camera!r}; LIBERO has {', '.join(LIBERO_KEYS)}, and further cameras, "
                "through which a policy can be probed but not run, are called camera3, camera4, …"
            )
        if key not in needed:
            raise UsageError(f"lerobot: rename sends {camera} to {key!r}; the policy reads {', '.join(needed)}.")
    left = tuple(key for key in needed if key not in asked.values())
    warnings = tuple(f"Image {key!r} gets no camera: rename does not name it." for key in left)
    return CameraPlan(dict(asked), False, empty + left, warnings)


def _by_name(needed: Sequence[str], empty: tuple[str, ...], checkpoint: str) -> CameraPlan:
    keys: dict[str, str] = {}
    masked: list[str] = list(empty)
    for key in needed:
        name = key.rpartition(".")[2]
        camera = CAMERA_ALIASES.get(name, "")
        if camera is None:
            masked.append(key)
        elif not camera or camera in keys:
            raise PolicyError(
                f"{checkpoint} reads cameras {', '.join(needed)}; LIBERO has {', '.join(LIBERO_KEYS)}, and none "
                f"of them is known to be {key!r}. Say which is which: ?rename=agentview={needed[0]},… (camera3=…, "
                "camera4=… for those that LIBERO lacks: it can then be probed, not run)."
            )
        else:
            keys[camera] = key
    told = ", ".join(f"{camera} → {key}" for camera, key in keys.items())
    warnings = [f"The checkpoint stores no rename for LIBERO's cameras; by their names: {told}."]
    warnings += [f"Image {key!r} stays empty and masked: LIBERO has no such camera." for key in masked[len(empty) :]]
    return CameraPlan(keys, False, tuple(masked), tuple(warnings))
