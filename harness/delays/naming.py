"""How sources of delays are named: other data, another name; another policy's timing says so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest(parts: Iterable[str]) -> str:
    """Eight hex digits over what a source was made of."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def on_anothers_actions(timed: str, policy: str) -> str:
    """What a name says where the timing is another policy's; nothing where it is its own."""
    return "" if timed == policy else f" (timing of {timed} on {policy}'s actions)"
