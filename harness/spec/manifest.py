"""The protocol manifest: everything that decides a score besides the checkpoint, and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from harness.errors import UsageError

BLIND = (
    "A run whose policies look at no frame has renderer 'none'. To pair such a policy with one that looks, add it to "
    "that one's ledger (`harness run SUITE --policy BLIND --out LEDGER --resume`), or run both in one command."
)
"""What to do where the renderer is none on one side: what does not look plays alike under any."""


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
        blind = differing == ["renderer"] and "none" in (base.get("renderer"), other.get("renderer"))
        hint = f" {BLIND}" if blind else ""
        raise UsageError(f"The two protocols differ, so their episodes cannot be compared: {listing}.{hint}")
