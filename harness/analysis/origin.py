"""What a run recorded of its policies' origin, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from harness.ledger.identities import read_policy_records

OriginRecords = Mapping[str, Mapping[str, Any]]
"""Policy label → what is known of its origin: `provenance`, `warnings`, `serving`, `default_nfe`."""

UNTRAINED_HEAD = "zero initialisation"
"""`provenance.snapflow` of a one-step head that was attached but never trained: it changes nothing."""


def policy_records(runs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Read `runs.policies`; of several runs of one policy, the last that recorded anything counts.

    Args:
        runs: `Ledger.runs`. Ledgers written before this was recorded have nothing there.

    Raises:
        LedgerError: It cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in runs["policies"].dropna():
        found |= read_policy_records(text)
    return found


def naive_single_steps(records: OriginRecords, variants: Iterable[tuple[Any, Any]]) -> frozenset[tuple[str, int]]:
    """Find the naive 1-step variants: policies made for several denoising steps, run with one, without a head for it.

    They are the baseline that a distilled one-step student has to beat.

    Args:
        records: See `policy_records`.
        variants: (policy label, NFE) of what ran; a missing NFE is no variant.

    Returns:
        The naive ones. A policy of which nothing is recorded is never called naive.
    """
    return frozenset(
        (str(policy), 1)
        for policy, nfe in variants
        if not pd.isna(nfe) and int(nfe) == 1 and _is_multi_step(records.get(str(policy), {}))
    )


def _is_multi_step(record: Mapping[str, Any]) -> bool:
    """Whether a policy was made for more steps than one; its checkpoint's word counts more than the user's option."""
    stated = record.get("provenance")
    provenance = stated if isinstance(stated, Mapping) else {}
    # Provenance is text; a ledger from elsewhere may hold anything.
    steps = str(provenance.get("stored_nfe") or record.get("default_nfe"))
    several = steps.isdecimal() and steps.lstrip("0") not in ("", "1")
    return several and provenance.get("snapflow") in (None, UNTRAINED_HEAD)
