"""Which policy acted: digests of what decides its actions besides the observation, the noise and the NFE.

Device, compilation and batching are no part of an identity: they change an answer by rounding, and the same policy is
compared across machines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

PARTS = ("weights", "configuration", "processors", "statistics")
"""What an identity consists of, in the order in which differences are named."""

NOTHING = "none"
"""The digest of a part that a policy does not have, as against null: a part that is not known."""


@dataclass(frozen=True, slots=True)
class PolicyIdentity:
    """Digests of the parts of a policy: each 64 hex digits, `NOTHING`, or None where it is not known."""

    weights: str | None = None
    """Of the weights file."""
    configuration: str | None = None
    """Of the settings that change actions: architecture, replan interval, parameter dtype, …"""
    processors: str | None = None
    """Of the steps before and after the network, their order and settings."""
    statistics: str | None = None
    """Of the values that those steps normalise with."""

    @property
    def sha256(self) -> str | None:
        """The digest of the whole: what `episodes.checkpoint_sha256` holds; None when nothing is known.

        Where only the weights are known, as in ledgers written before identities were, it is theirs.
        """
        known = self.record()
        if set(known) <= {"weights"}:
            return self.weights
        return digest_of(known)

    @property
    def whole(self) -> bool:
        """Whether every part is known, so that equal digests mean the same policy."""
        return all(getattr(self, part) is not None for part in PARTS)

    def record(self) -> dict[str, str]:
        """Plain data: the parts that are known."""
        return {part: digest for part, digest in asdict(self).items() if digest is not None}

    def compare(self, other: PolicyIdentity) -> IdentityComparison:
        """Compare part by part."""
        known = [part for part in PARTS if getattr(self, part) is not None and getattr(other, part) is not None]
        return IdentityComparison(
            tuple(part for part in known if getattr(self, part) != getattr(other, part)),
            tuple(part for part in PARTS if part not in known),
        )


class IdentityComparison(NamedTuple):
    """What two identities have in common."""

    differ: tuple[str, ...]
    """Parts that are known of both and differ: two policies, if there are any."""
    unknown: tuple[str, ...]
    """Parts that are not known of both: whether they differ cannot be told."""


def read_identity(record: Mapping[str, Any] | None, checkpoint_sha256: str | None = None) -> PolicyIdentity:
    """The identity that a ledger holds of one policy.

    Args:
        record: The policy's entry in `runs.policies`; None when there is none.
        checkpoint_sha256: `episodes.checkpoint_sha256` of its rows: the digest of the weights where the record has no
            identity, as in ledgers written before identities were.
    """
    stated = (record or {}).get("identity")
    parts = {part: str(stated[part]) for part in PARTS if stated.get(part)} if isinstance(stated, Mapping) else {}
    return PolicyIdentity(**parts) if parts else PolicyIdentity(weights=checkpoint_sha256)


def digest_of(value: Any) -> str:
    """Digest of plain data, whatever the order of its keys; values that JSON lacks count by their text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
