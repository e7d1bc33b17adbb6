"""GR00T's messages: msgpack, in which an array is a map of its `.npy` bytes, and LIBERO's modalities.

Source: NVIDIA/Isaac-GR00T, `gr00t/policy/server_client.py` (`MsgSerializer`, `PolicyServer`) and `gr00t_policy.py`
(`check_observation`, `Gr00tSimPolicyWrapper`); LIBERO's keys and the gripper's numbers as its evaluator has them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.policies.servers import packing
from harness.policies.servers.convention import Disagreement, chunk_of
from harness.spec.observation import CAMERAS, Observation

ARRAY, CONFIG = "__ndarray_class__", "__ModalityConfig_class__"
VIDEO = dict(zip(CAMERAS, ("image", "wrist_image"), strict=True))
"""LIBERO camera → GR00T's key."""
STATE: Mapping[str, slice] = {
    "x": slice(0, 1), "y": slice(1, 2), "z": slice(2, 3),
    "roll": slice(3, 4), "pitch": slice(4, 5), "yaw": slice(5, 6), "gripper": slice(6, 8),
}  # fmt: skip
"""GR00T's key → numbers of LIBERO's state. Roll, pitch and yaw are the axis-angle's three numbers, by these names."""
ACTION = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
LANGUAGE = "annotation.human.action.task_description"
MAX_HEADER = 10_000
"""Characters of an array's header that are read."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Encode a message."""
    return packing.pack(message, _encode)


def unpack(data: bytes, *, sender: str) -> Any:
    """Decode a message.

    Raises:
        PolicyError: The bytes are no message of this protocol, or the server complains.
    """
    if data == b"ERROR":
        raise PolicyError(f"{sender} answered ERROR, as GR00T's servers did before N1.5; its own log says why.")
    message = packing.unpack(data, sender=sender, protocol="GR00T's", decode=_decode)
    if isinstance(message, dict) and "error" in message:
        raise PolicyError(f"{sender} answered with an error: {str(message['error'])[:600]}")
    return message


def encode_observation(seen: Observation, language: str, layout: str) -> dict[str, Any]:
    """One observation, with a batch and a time of 1 in front of every array.

    Args:
        seen: What the policy may see.
        language: Key of the instruction.
        layout: "nested" by modality, or "flat".
    """
    video = {VIDEO[camera]: np.ascontiguousarray(frame)[None, None] for camera, frame in seen.images.items()}
    state = {key: seen.state[part].astype(np.float32)[None, None] for key, part in STATE.items()}
    if layout == "nested":
        return {"video": video, "state": state, "language": {language: [[seen.instruction]]}}
    flat: dict[str, Any] = {f"video.{key}": value for key, value in video.items()}
    flat |= {f"state.{key}": value for key, value in state.items()}
    return flat | {language: [seen.instruction]}


def decode_actions(answer: Any, length: int | None, sender: str, *, opens_at_one: bool) -> NDArray[np.float32]:
    """A chunk in LIBERO's convention, shape (T, 7).

    Args:
        answer: [actions by key, information].
        length: T; None when it is not known yet.
        sender: The server.
        opens_at_one: Whether the gripper's 1 is open and 0 closed, as in GR00T's LIBERO data.

    Raises:
        PolicyError: A key is missing, or an array has another shape.
    """
    parts = answer[0] if isinstance(answer, list) and answer else answer
    if not isinstance(parts, Mapping):
        raise PolicyError(f"{sender} answered a {type(parts).__name__} in place of actions by key.")
    columns = [_column(parts, key, sender) for key in ACTION]
    if len({len(column) for column in columns}) != 1:
        raise PolicyError(f"{sender} answered chunks of {[len(column) for column in columns]} actions for {ACTION}.")
    chunk = chunk_of(np.stack(columns, axis=1), length, sender)
    if opens_at_one:
        # As NVIDIA's evaluator: stretched to -1 … 1, its sign taken, and turned round.
        chunk[:, 6] = np.where(chunk[:, 6] >= 0.5, -1.0, 1.0)
    return chunk


def _column(parts: Mapping[str, Any], key: str, sender: str) -> NDArray[Any]:
    value = parts.get(key, parts.get(f"action.{key}"))
    array = np.asarray(value if isinstance(value, np.ndarray) else [])
    if array.size == 0 or array.dtype.kind not in "iuf" or array.size != max(array.shape):
        raise PolicyError(
            f"{sender} answered {', '.join(map(repr, parts))}; {key!r} is missing or of shape {array.shape}, where "
            f"this client takes (1, T, 1). It serves another embodiment than LIBERO's, which has {', '.join(ACTION)}."
        )
    return array.reshape(-1)


def declared(config: Any) -> tuple[str, list[Disagreement]]:
    """What a server's modality configuration says: the key of the instruction, and what it has otherwise.

    Args:
        config: Its answer to `get_modality_config`; another form declares nothing.
    """
    found = []
    ours: Mapping[str, tuple[str, ...]] = {"video": tuple(VIDEO.values()), "state": tuple(STATE), "action": ACTION}
    for modality, keys in ours.items():
        theirs = _keys(config, modality)
        wrong = set(theirs) - set(keys) if modality != "action" else set(theirs) ^ set(keys)
        if theirs and wrong:
            found.append(Disagreement(f"{modality} keys", ", ".join(theirs), ", ".join(keys)))
        steps = _entry(config, modality).get("delta_indices")
        if modality != "action" and isinstance(steps, list) and len(steps) > 1:
            found.append(Disagreement(f"{modality} of a decision", f"{len(steps)} steps", "1 step"))
    language = _keys(config, "language")
    if len(language) > 1:
        found.append(Disagreement("language keys", ", ".join(language), "one instruction"))
    return (language[0] if language else LANGUAGE), found


def _entry(config: Any, modality: str) -> Mapping[str, Any]:
    entry = config.get(modality) if isinstance(config, Mapping) else None
    return entry if isinstance(entry, Mapping) else {}


def _keys(config: Any, modality: str) -> list[str]:
    keys = _entry(config, modality).get("modality_keys")
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        packing.require_plain(value.dtype)
        out = io.BytesIO()
        np.save(out, value, allow_pickle=False)
        return {ARRAY: True, "as_npy": out.getvalue()}
    raise TypeError(f"a {type(value).__name__} has no encoding")


def _decode(found: dict[Any, Any]) -> Any:
    if ARRAY in found:
        data = found["as_npy"]
        if not isinstance(data, bytes):
            raise ValueError("an array without bytes")
        source, formats = io.BytesIO(data), cast(Any, np.lib.format)
        version = formats.read_magic(source)
        read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"an array of format {version} is refused")
        # Not numpy's own reader, which sets as much memory aside as the header says.
        shape, fortran, dtype = read(source, max_header_size=MAX_HEADER)
        if fortran:
            raise ValueError("an array in Fortran's order is refused")
        return packing.array_of(list(shape), dtype.str, data[source.tell() :])
    if CONFIG in found:
        return found["as_json"]
    return found
