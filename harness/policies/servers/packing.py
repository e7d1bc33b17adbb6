"""Msgpack from others, bounded: a small message may not become much memory, and no array holds Python objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError

PLAIN_KINDS = "biufSU"
"""Kinds of dtype that are plain values: booleans, integers, floats, bytes and text."""
MAX_VALUES = 1_000_000
"""Values in the lists and maps of one message, together (an array is one): Python's take many times their bytes."""

MAX_DIMENSIONS = 32
MAX_DTYPE = 16
"""Characters of a dtype: numpy also reads lists of fields from a text, at great length."""


def pack(message: Mapping[str, Any], encode: Callable[[Any], Any]) -> bytes:
    """Encode a message.

    Args:
        message: Its values may be, or contain, whatever `encode` knows.
        encode: Turns what msgpack does not know into what it does.

    Raises:
        TypeError: A value that has no encoding.
    """
    packed: bytes = msgpack.packb(message, default=encode)
    return packed


def unpack(data: bytes, *, sender: str, protocol: str, decode: Callable[[dict[Any, Any]], Any]) -> Any:
    """Decode a message.

    Args:
        data: One binary frame.
        sender: Who sent it, for the message of an error.
        protocol: What it is meant to speak, likewise.
        decode: Turns a map into what it stands for, an array for instance; raises what `pack` may raise, or ValueError.

    Raises:
        PolicyError: The bytes are no msgpack, or hold an array that is none.
    """
    left = MAX_VALUES

    def count(values: Any) -> Any:
        nonlocal left
        left -= len(values) + 1
        if left < 0:
            raise ValueError(f"lists and maps of more than {MAX_VALUES:,} values are refused; send arrays")
        return values

    try:
        return msgpack.unpackb(
            data,
            object_hook=lambda found: decode(count(found)),
            list_hook=count,
            max_array_len=MAX_VALUES,
            max_map_len=MAX_VALUES,
        )
    except (ValueError, TypeError, KeyError, OSError, msgpack.exceptions.UnpackException) as error:
        raise PolicyError(
            f"{sender} sent {len(data)} bytes that are no msgpack message ({type(error).__name__}: {error}); it does "
            f"not speak {protocol} protocol."
        ) from error


def unpack_map(
    data: bytes, *, sender: str, protocol: str, decode: Callable[[dict[Any, Any]], Any], bare: str | None = None
) -> dict[str, Any]:
    """Decode a message that is a map; see `unpack`.

    Args:
        data: One binary frame.
        sender: Who sent it.
        protocol: What it is meant to speak.
        decode: As for `unpack`.
        bare: Name that an array gets which is the whole message; None refuses it.

    Raises:
        PolicyError: See `unpack`; or it is something else than a map.
    """
    message = unpack(data, sender=sender, protocol=protocol, decode=decode)
    if bare is not None and isinstance(message, np.ndarray):
        return {bare: message}
    if not isinstance(message, dict):
        raise PolicyError(
            f"{sender} sent a msgpack {type(message).__name__}, not a map; it does not speak {protocol} protocol."
        )
    return message


def require_plain(dtype: np.dtype[Any]) -> None:
    """Refuse to send an array of objects.

    Raises:
        TypeError: It is one.
    """
    if dtype.kind not in PLAIN_KINDS:
        raise TypeError(f"an array of dtype {dtype} has no encoding")


def array_of(shape: Any, dtype: Any, data: Any) -> NDArray[Any]:
    """An array from its parts.

    Raises:
        ValueError: The parts do not fit each other, or would take more than they say.
    """
    lengths, kind = _shape(shape), plain_dtype(dtype)
    if not isinstance(data, bytes):
        raise ValueError("an array without bytes")
    if kind.itemsize * math.prod(lengths) != len(data) or not (kind.itemsize or math.prod(lengths) == 0):
        raise ValueError(f"an array {list(lengths)} of {kind} is not {len(data)} bytes")
    # Copied, because the received bytes cannot be written to, which torch warns of.
    return np.ndarray(lengths, kind, data).copy()


def plain_dtype(name: Any) -> np.dtype[Any]:
    """A dtype of plain values.

    Raises:
        ValueError: Another one, or a text that is none.
    """
    if not isinstance(name, str) or len(name) > MAX_DTYPE:
        raise ValueError("an array whose dtype is not a short text is refused")
    dtype = np.dtype(name)
    if dtype.kind not in PLAIN_KINDS:
        raise ValueError(f"an array of dtype {dtype} is refused")
    return dtype


def _shape(lengths: Any) -> tuple[int, ...]:
    """A shape of whole numbers: the product of a text and a number is a text of any length."""
    if not isinstance(lengths, list) or len(lengths) > MAX_DIMENSIONS:
        raise ValueError(f"an array whose shape is no list of at most {MAX_DIMENSIONS} lengths is refused")
    if any(type(length) is not int or length < 0 for length in lengths):
        raise ValueError("an array whose shape holds something else than lengths from 0 is refused")
    return tuple(lengths)
