"""openpi's encoding: msgpack, in which a numpy array is a map of its bytes, dtype and shape.

Source: openpi-client 0.1.2, `openpi_client.msgpack_numpy`. Arrays of Python objects are neither written nor read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from harness.errors import PolicyError

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
PLAIN_KINDS = "biufSU"
"""Kinds of dtype that are plain values: booleans, integers, floats, bytes and text."""
MAX_VALUES = 1_000_000
"""Values in the lists and maps of one message, together (an array is one): Python's take many times their bytes."""

MAX_DIMENSIONS = 32
MAX_DTYPE = 16
"""Characters of a dtype: numpy also reads lists of fields from a text, at great length."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Encode a message; its values may be, or contain, numpy arrays and scalars.

    Raises:
        TypeError: A value that has no encoding.
    """
    packed: bytes = msgpack.packb(message, default=_encode)
    return packed


def unpack(data: bytes, *, sender: str, bare: str | None = None) -> dict[str, Any]:
    """Decode a message.

    Args:
        data: One binary frame.
        sender: Who sent it, for the message of an error.
        bare: Name that an array gets which is the whole message, as vLLM-Omni answers; None refuses it.

    Raises:
        PolicyError: The bytes are no msgpack map, or hold an array that is none.
    """
    left = MAX_VALUES

    def count(values: Any) -> Any:
        nonlocal left
        left -= len(values) + 1
        if left < 0:
            raise ValueError(f"lists and maps of more than {MAX_VALUES:,} values are refused; send arrays")
        return values

    try:
        message = msgpack.unpackb(
            data,
            object_hook=lambda found: _decode(count(found)),
            list_hook=count,
            max_array_len=MAX_VALUES,
            max_map_len=MAX_VALUES,
        )
    except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
        raise PolicyError(
            f"{sender} sent {len(data)} bytes that are no msgpack message ({type(error).__name__}: {error}); it does "
            "not speak openpi's protocol."
        ) from error
    if bare is not None and isinstance(message, np.ndarray):
        return {bare: message}
    if not isinstance(message, dict):
        raise PolicyError(
            f"{sender} sent a msgpack {type(message).__name__}, not a map; it does not speak openpi's protocol."
        )
    return message


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in PLAIN_KINDS:
            raise TypeError(f"an array of dtype {value.dtype} has no encoding")
        if isinstance(value, np.generic):
            return {SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
        return {ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    raise TypeError(f"a {type(value).__name__} has no encoding")


def _decode(found: dict[Any, Any]) -> Any:
    if ARRAY in found:
        shape, dtype, data = _shape(found[b"shape"]), _plain(found[b"dtype"]), found[b"data"]
        if not isinstance(data, bytes):
            raise ValueError("an array without bytes")
        if dtype.itemsize * math.prod(shape) != len(data) or not (dtype.itemsize or math.prod(shape) == 0):
            raise ValueError(f"an array {list(shape)} of {dtype} is not {len(data)} bytes")
        # Copied, because the received bytes cannot be written to, which torch warns of.
        return np.ndarray(shape, dtype, data).copy()
    if SCALAR in found:
        return _plain(found[b"dtype"]).type(found[b"data"])
    return found


def _shape(lengths: Any) -> tuple[int, ...]:
    """A shape of whole numbers: the product of a text and a number is a text of any length."""
    if not isinstance(lengths, list) or len(lengths) > MAX_DIMENSIONS:
        raise ValueError(f"an array whose shape is no list of at most {MAX_DIMENSIONS} lengths is refused")
    if any(type(length) is not int or length < 0 for length in lengths):
        raise ValueError("an array whose shape holds something else than lengths from 0 is refused")
    return tuple(lengths)


def _plain(name: Any) -> np.dtype[Any]:
    if not isinstance(name, str) or len(name) > MAX_DTYPE:
        raise ValueError("an array whose dtype is not a short text is refused")
    dtype = np.dtype(name)
    if dtype.kind not in PLAIN_KINDS:
        raise ValueError(f"an array of dtype {dtype} is refused")
    return dtype
