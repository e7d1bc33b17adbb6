"""The protocol manifest: everything that decides a score besides the checkpoint, and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from harness.errors import UsageError


def canonical_json(value: Mapping[str, Any]) -> str:
    """Serialise with sorted keys and no white space, so that equal manifests give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """Hash a manifest: 64 hex digits over its canonical JSON."""
    return hashlib.sha256(canonical_json(manifest).encode()).hexdigest()


def require_equal_manifests(base: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse to compare rows of two protocols.

    Raises:
        UsageError: Names every differing key with both values.
    """
    keys = sorted(set(base) | set(other))
    differing = [key for key in keys if base.get(key) != other.get(key)]
    if differing:
        listing = "; ".join(f"{key}: {base.get(key)!r} against {other.get(key)!r}" for key in differing)
        raise UsageError(f"The two protocols differ, so their episodes cannot be compared: {listing}.")
