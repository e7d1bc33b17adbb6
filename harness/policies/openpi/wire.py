"""openpi's encoding: msgpack, in which a numpy array is a map of its bytes, dtype and shape.

Source: openpi-client 0.1.2, `openpi_client.msgpack_numpy`. Arrays of Python objects are neither written nor read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.policies.servers import packing

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"


def pack(message: Mapping[str, Any]) -> bytes:
    """Encode a message; its values may be, or contain, numpy arrays and scalars.

    Raises:
        TypeError: A value that has no encoding.
    """
    return packing.pack(message, encode)


def unpack(data: bytes, *, sender: str, bare: str | None = None) -> dict[str, Any]:
    """Decode a message.

    Args:
        data: One binary frame.
        sender: Who sent it, for the message of an error.
        bare: Name that an array gets which is the whole message, as vLLM-Omni answers; None refuses it.

    Raises:
        PolicyError: The bytes are no msgpack map, or hold an array that is none.
    """
    return packing.unpack_map(data, sender=sender, protocol="openpi's", decode=_decode, bare=bare)


def encode(value: Any) -> Any:
    """What msgpack does not know, as openpi writes it.

    Raises:
        TypeError: It has no encoding.
    """
    if isinstance(value, np.ndarray | np.generic):
        packing.require_plain(value.dtype)
        if isinstance(value, np.generic):
            return {SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
        return {ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    raise TypeError(f"a {type(value).__name__} has no encoding")


def _decode(found: dict[Any, Any]) -> Any:
    if ARRAY in found:
        return packing.array_of(found[b"shape"], found[b"dtype"], found[b"data"])
    if SCALAR in found:
        return packing.plain_dtype(found[b"dtype"]).type(found[b"data"])
    return found
