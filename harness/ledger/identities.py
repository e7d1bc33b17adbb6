"""Whose episodes a ledger holds: the digests of its rows, resolved to identities by what its runs state.

Rows written before identities were kept hold the digest of the weights alone: against these only the weights count.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

import pandas as pd

from harness.errors import LedgerError
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


def mixed_policies(episodes: pd.DataFrame, stated: Mapping[str, PolicyIdentity]) -> dict[str, str]:
    """Policies whose one name stands for several identities: name → digests and what they differ in, for messages."""
    known = episodes[["policy_id", "checkpoint_sha256"]].dropna().drop_duplicates()
    found = {}
    for policy, rows in known.groupby("policy_id", sort=False):
        digests = rows["checkpoint_sha256"].tolist()
        if differ := differing_parts(digests, stated):
            shown = ", ".join(digest[:12] for digest in digests)
            found[str(policy)] = f"{len(digests)} different checkpoints ({shown}, which differ in {', '.join(differ)})"
    return found


def refuse_identities(mixed: Mapping[str, str]) -> None:
    """Refuse to pool ledgers in which one name stands for several checkpoints.

    Args:
        mixed: From `mixed_policies`.

    Raises:
        LedgerError: Names the policy and the digests.
    """
    for policy, described in mixed.items():
        raise LedgerError(
            f"These ledgers have of policy {policy!r} {described}, so their episodes cannot be merged. "
            "Report them one by one, or pair them with `harness compare`."
        )


def split_identities(frame: pd.DataFrame, episodes: pd.DataFrame, mixed: Collection[str]) -> pd.DataFrame:
    """Tell the checkpoints of one name apart: its `policy_id` becomes "NAME [DIGEST]", first 12 digits.

    Args:
        frame: A table with `run_id` and `policy_id`; without `checkpoint_sha256` rows are told apart by their run.
        episodes: All attempts.
        mixed: Policies to split.

    Returns:
        The frame, relabelled; rows whose checkpoint is not known become "NAME [unknown]".
    """
    if not mixed:
        return frame
    touched = frame["policy_id"].isin(list(mixed))
    of_run = episodes.dropna(subset=["checkpoint_sha256"]).drop_duplicates(["run_id", "policy_id"])
    by_run = of_run.set_index(["run_id", "policy_id"])["checkpoint_sha256"]
    if "checkpoint_sha256" in frame:
        digests = frame.loc[touched, "checkpoint_sha256"]
    else:
        places = pd.MultiIndex.from_frame(frame.loc[touched, ["run_id", "policy_id"]])
        digests = pd.Series(by_run.reindex(places).to_numpy(), index=places.get_level_values(0)).reset_index(drop=True)
        digests.index = frame.index[touched]
    labels = frame.loc[touched, "policy_id"] + " [" + digests.astype("string").str[:12].fillna("unknown") + "]"
    return frame.assign(policy_id=frame["policy_id"].mask(touched, labels.reindex(frame.index)))
