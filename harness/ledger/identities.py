"""Whose episodes a ledger holds: the digests of its rows, resolved to identities by what its runs state.

Rows written before identities were kept hold the digest of the weights alone: against these only the weights count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import combinations

from harness.spec.identity import PolicyIdentity, read_identity


def stated_identities(policies: Iterable[str | None]) -> dict[str, PolicyIdentity]:
    """Digest → identity, for every policy of every run that states one.

    Args:
        policies: Values of `runs.policies`, JSON.
    """
    records = [record for text in policies if text for record in json.loads(text).values()]
    found = [read_identity(record) for record in records if isinstance(record, Mapping)]
    return {identity.sha256: identity for identity in found if identity.sha256 is not None}


def differing_parts(digests: Iterable[str | None], stated: Mapping[str, PolicyIdentity]) -> tuple[str, ...]:
    """Compare the identities behind several `episodes.checkpoint_sha256`.

    Returns:
        The parts that differ between any two of them (weights, configuration, processors, statistics); empty: as far as
        can be told, these are rows of one policy.
    """
    identities = [stated.get(digest, PolicyIdentity(weights=digest)) for digest in sorted({d for d in digests if d})]
    pairs = combinations(identities, 2)
    return tuple(dict.fromkeys(part for one, other in pairs for part in one.compare(other).differ))
