"""JSON records of files that others may have touched: bounded in size and depth, and of the types that are expected.

Standard library only: training processes read with it too. Every fault is a `ValueError` that says what is wrong; who
reads a file names it in a typed error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1
"""What a Parquet column holds."""


class RepeatedKey(ValueError):
    """An object has a key twice: which of the two values was meant is not known."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which each key stands once: `object_pairs_hook` of `json.loads`, which would keep the last.

    Raises:
        RepeatedKey: Names the key.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise RepeatedKey(f"it has the key {_shown(repeated)} twice in one object")
    return found


def read_json(raw: str | bytes, *, finite: bool = True) -> Any:
    """Read a JSON value.

    Args:
        raw: Text, or its UTF-8.
        finite: Refuse NaN and Infinity, which Python writes and JSON does not have.

    Raises:
        ValueError: No JSON, more than 64 MiB, nested deeper than 64, NaN or infinite, an integer of more than 64 bits,
            half of a character (a lone surrogate), or a key twice in one object.
    """
    if len(raw) > MAX_BYTES:
        raise ValueError(f"it has {len(raw):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        value = json.loads(raw, parse_constant=_refuse_constant if finite else None, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from None
    _check(value, finite)
    return value


def read_object(raw: str | bytes, *, finite: bool = True) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: As `read_json`, or it is something else than an object.
    """
    value = read_json(raw, finite=finite)
    if not isinstance(value, dict):
        raise ValueError(f"it is {_kind(value)}, where an object is expected")
    return value


def text(data: Mapping[str, Any], key: str) -> str:
    """A text of a record.

    Raises:
        ValueError: It is missing, or no text.
    """
    return str(_typed(data, key, str, "a text"))


def optional_text(data: Mapping[str, Any], key: str) -> str | None:
    """A text of a record that may be null.

    Raises:
        ValueError: It is missing, or neither a text nor null.
    """
    return None if key in data and data[key] is None else text(data, key)


def whole(data: Mapping[str, Any], key: str) -> int:
    """A whole number from 0.

    Raises:
        ValueError: It is missing, or no such number.
    """
    value = _typed(data, key, int, "a whole number from 0")
    if isinstance(value, bool) or value < 0:
        raise ValueError(f"{key} is {_shown(value)}, where a whole number from 0 is expected")
    return int(value)


def optional_whole(data: Mapping[str, Any], key: str) -> int | None:
    """A whole number from 0, or null.

    Raises:
        ValueError: It is missing, or neither.
    """
    return None if key in data and data[key] is None else whole(data, key)


def number(data: Mapping[str, Any], key: str) -> float:
    """A number.

    Raises:
        ValueError: It is missing, or no number.
    """
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} is {_shown(value)}, where a number is expected")
    return float(value)


def optional_number(data: Mapping[str, Any], key: str) -> float | None:
    """A finite number, or None where it is missing or null.

    Raises:
        ValueError: Neither.
    """
    return None if data.get(key) is None else number(data, key)


def texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        ValueError: It is missing, or something else.
    """
    values = _typed(data, key, list, "a list of texts")
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise ValueError(f"{key} holds {_shown(wrong[0])}, where a text is expected")
    return tuple(values)


def _typed(data: Mapping[str, Any], key: str, kind: type, expected: str) -> Any:
    if key not in data:
        raise ValueError(f"it has no {key}")
    if not isinstance(data[key], kind):
        raise ValueError(f"{key} is {_shown(data[key])}, where {expected} is expected")
    return data[key]


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number of JSON")


def _check(value: Any, finite: bool) -> None:
    """Refuse what reads but cannot be kept, written or shown again."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += [*one.keys(), *one.values()]
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str) and not one.isascii():
                one.encode()
            elif finite and isinstance(one, float) and not math.isfinite(one):
                raise ValueError("it holds a number that is too large")
            elif isinstance(one, int) and abs(one) > MAX_INTEGER:
                raise ValueError("it holds an integer of more than 64 bits")
        if not inner:
            return
        level = inner
    raise ValueError(f"it is nested deeper than {MAX_DEPTH}")


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", type(None): "null"}.get(type(value), _shown(value))


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=True)
    return shown if len(shown) <= 80 else shown[:79] + "…"
