"""Whose episodes a ledger holds: the digests of its rows, resolved to identities by what its runs state.

Rows written before identities were kept hold the digest of the weights alone: against these only the weights count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from harness.errors import LedgerError
from harness.spec.identity import PolicyIdentity, read_identity
from harness.strict_json import read_object

if TYPE_CHECKING:
    import pandas as pd


def read_policy_records(text: str | None) -> dict[str, dict[str, Any]]:
    """What a run recorded of its policies, by label: one value of `runs.policies`.

    Raises:
        LedgerError: It is no JSON object of objects.
    """
    try:
        records = read_object(text, finite=False) if text else {}
    except ValueError as error:
        raise LedgerError(f"runs.policies cannot be read ({error}): the ledger is damaged.") from error
    if wrong := [label for label, record in records.items() if not isinstance(record, dict | None)]:
        raise LedgerError(f"runs.policies holds no record of {wrong[0]!r}: the ledger is damaged.")
    return {label: record for label, record in records.items() if record}


def stated_identities(policies: Iterable[str | None]) -> dict[str, PolicyIdentity]:
    """Digest → identity, for every policy of every run that states one.

    Args:
        policies: Values of `runs.policies`, JSON.

    Raises:
        LedgerError: One cannot be read.
    """
    found = [read_identity(record) for text in policies for record in read_policy_records(text).values()]
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


def require_one_identity(episodes: pd.DataFrame, stated: Mapping[str, PolicyIdentity]) -> None:
    """Refuse episodes in which one policy's name stands for several identities: nothing pools them.

    Raises:
        LedgerError: Names the policy, the digests, and what they differ in.
    """
    known = episodes[["policy_id", "checkpoint_sha256"]].dropna().drop_duplicates()
    for policy, rows in known.groupby("policy_id", sort=False):
        digests = rows["checkpoint_sha256"].tolist()
        if differ := differing_parts(digests, stated):
            raise LedgerError(
                f"Policy {policy!r} has {len(digests)} different checkpoints in these ledgers "
                f"({', '.join(digest[:12] for digest in digests)}, which differ in {', '.join(differ)}), so their "
                "episodes cannot be merged. Report them one by one, or pair them with `harness compare`."
            )
