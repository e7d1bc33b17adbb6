"""vla-eval's messages: msgpack of type, payload, seq and timestamp; arrays and frames as maps.

Source: vla-eval 0.8.0, `vla_eval.protocol` (messages, numpy_codec, image_codec), protocol version 1. Frames may come as
PNG or JPEG; they go out as plain arrays, which its reader takes too.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.policies.servers import packing

PROTOCOL_VERSION = 1
HELLO, OBSERVATION, ACTION = "hello", "observation", "action"
EPISODE_START, EPISODE_END, ERROR = "episode_start", "episode_end", "error"
TYPES = (HELLO, OBSERVATION, ACTION, EPISODE_START, EPISODE_END, ERROR)
ARRAY, IMAGE = "__ndarray__", "__image__"
MAX_PIXELS = 4096 * 4096


class Message(NamedTuple):
    """One message."""

    type: str
    payload: Mapping[str, Any]
    seq: int = 0


def pack(message: Message) -> bytes:
    """Encode a message.

    Raises:
        TypeError: A value of its payload that has no encoding.
    """
    raw = {"type": message.type, "payload": message.payload, "seq": message.seq, "timestamp": time.time()}
    return packing.pack(raw, _encode)


def unpack(data: bytes, *, sender: str) -> Message:
    """Decode a message.

    Raises:
        PolicyError: The bytes are no message of this protocol.
    """
    raw = packing.unpack_map(data, sender=sender, protocol="vla-eval's", decode=_decode)
    kind, payload, seq = raw.get("type"), raw.get("payload"), raw.get("seq")
    if kind not in TYPES or not isinstance(payload, dict) or type(seq) is not int:
        told = ", ".join(sorted(map(repr, raw)))
        raise PolicyError(
            f"{sender} sent a message of type {str(kind)[:60]!r} with {told[:200]}; vla-eval's have type, payload, seq."
        )
    return Message(kind, payload, seq)


def require_version(payload: Mapping[str, Any], sender: str) -> None:
    """Refuse another version of the protocol.

    Raises:
        PolicyError: Names both versions.
    """
    version = payload.get("protocol_version")
    if version != PROTOCOL_VERSION:
        raise PolicyError(
            f"{sender} speaks version {version!r} of vla-eval's protocol (package {payload.get('harness_version')!r}), "
            f"this end version {PROTOCOL_VERSION} (of vla-eval 0.8)."
        )


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        packing.require_plain(value.dtype)
        return {ARRAY: True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} has no encoding")


def _decode(found: dict[Any, Any]) -> Any:
    if IMAGE in found:
        return _frame(found)
    if ARRAY in found:
        return packing.array_of(found["shape"], found["dtype"], found["data"])
    return found


def _frame(found: dict[Any, Any]) -> NDArray[Any]:
    if found["format"] == "raw":
        return packing.array_of(found["shape"], found["dtype"], found["data"])
    if found["format"] not in ("png", "jpeg") or not isinstance(found["data"], bytes):
        raise ValueError(f"a frame of format {str(found['format'])[:20]!r} is refused; png, jpeg or raw")
    from PIL import Image

    picture = Image.open(io.BytesIO(found["data"]), formats=("PNG", "JPEG"))
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"a frame of {picture.width}×{picture.height} pixels is refused")
    return np.array(picture)
