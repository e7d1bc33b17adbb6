"""Read one checkpoint's episodes and pair them with another's, in Arrow: a million episodes fit in seconds."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.errors import LedgerError, UsageError
from harness.ledger.identities import differing_parts, stated_identities
from harness.ledger.parts import locate_ledger, read_rows, read_table
from harness.ledger.storage import Location
from harness.spec.identity import PolicyIdentity
from harness.spec.manifest import require_equal_manifests
from harness.spec.policy import PolicyAtNfe

TIMEOUT, SUCCESS, ERROR = 0, 1, 2
"""Outcome codes. A timeout is a failure of the policy; an error is nobody's result."""

_CODES = pa.array(["timeout", "success", "error"])
_COLUMNS = [
    *("episode_key", "suite", "task_id", "task", "init_state_id", "trial", "policy_id", "nfe", "checkpoint"),
    *("checkpoint_sha256", "outcome", "attempt", "started_at", "video", "hardware"),
]
_DETAILS = ("suite", "task_id", "task", "init_state_id", "trial", "video")


Scored = bool | None
"""Success, failure, or None for an infrastructure error that is not tried again."""


@dataclass(frozen=True)
class Side:
    """One checkpoint's episodes: one row per episode key, the last attempt of each."""

    path: str
    """Ledger it was read from."""
    policy_id: str | None
    """Null in a ledger that was imported without a name."""
    nfe: int | None
    checkpoint: str | None
    """Resolved checkpoint; None when the ledger states none."""
    hardware: tuple[str, ...]
    """Hardware that the episodes ran on."""
    manifests: dict[str, dict[str, Any]]
    """LIBERO suite → protocol manifest."""
    status: str | None
    """Status of the ledger's last run: finished, interrupted, stopped, …"""
    keys: pa.Array
    """Episode keys, unique."""
    outcomes: NDArray[np.int8]
    """Outcome codes, aligned with `keys`."""
    details: pa.Table
    """Columns suite, task_id, task, init_state_id, trial, video, aligned with `keys`."""
    repeated: int
    """Rows that were other attempts of an episode that is counted once."""

    @property
    def label(self) -> str:
        """Name in reports: policy, NFE."""
        return PolicyAtNfe(self.policy_id, self.nfe).label

    @property
    def n(self) -> int:
        """Number of episodes, errors included."""
        return len(self.keys)


def read_sides(path: str | Path, *, policy: str | None = None, nfe: int | None = None) -> list[Side]:
    """Read every (policy, NFE) of a ledger that matches.

    Args:
        path: Ledger: a directory or a `pyarrow.fs` URI.
        policy: Only this policy_id.
        nfe: Only this NFE.

    Returns:
        One side per variant, sorted; empty when the ledger has no episodes at all (a probe's ledger).

    Raises:
        LedgerError: No ledger there (NoLedgerError), a damaged part, or one policy with two checkpoints.
        UsageError: Nothing matches `policy` and `nfe`; names what there is.
    """
    location = locate_ledger(path)
    episodes = read_table(location, "episodes", _COLUMNS)
    manifests, status, stated = _read_runs(location)
    present = _variants(episodes)
    wanted = [key for key in present if policy in (None, key[0]) and nfe in (None, key[1])]
    if present and not wanted:
        asked = describe_variants([(policy or "any policy", nfe)])
        raise UsageError(f"{str(path)!r} has no episodes of {asked}. It has: {describe_variants(present)}.")
    whole = len(present) == 1
    return [
        _side(str(path), key, episodes if whole else _rows_of(episodes, key), manifests, status, stated)
        for key in wanted
    ]


def describe_variants(variants: Iterable[tuple[str | None, int | None]]) -> str:
    """List policies at their NFE for a message."""
    return ", ".join(PolicyAtNfe(policy_id, nfe).label for policy_id, nfe in variants) or "none"


def last_status(path: str | Path) -> str | None:
    """Status of a ledger's last run; None when it has none."""
    return _read_runs(locate_ledger(path))[1]


def restrict(side: Side, keys: Collection[str]) -> Side:
    """Keep only the episodes with certain keys."""
    kept = pc.is_in(side.keys, value_set=pa.array(sorted(keys), pa.string()))
    return replace(
        side,
        keys=side.keys.filter(kept),
        outcomes=side.outcomes[kept.to_numpy(False)],
        details=side.details.filter(kept),
    )


def require_same_protocol(base: Side, candidate: Side) -> None:
    """Refuse to pair episodes of two protocols.

    Raises:
        UsageError: Names the suite, every differing key and both values.
    """
    for suite in sorted(set(base.manifests) & set(candidate.manifests)):
        try:
            require_equal_manifests(base.manifests[suite], candidate.manifests[suite])
        except UsageError as error:
            raise UsageError(f"{base.path} against {candidate.path}, suite {suite}: {error}") from error


@dataclass(frozen=True)
class Pairing:
    """Which rows of two sides belong together."""

    base_rows: NDArray[np.int64]
    """Row of each pair in the base, shape (n,)."""
    candidate_rows: NDArray[np.int64]
    """Row of each pair in the candidate, shape (n,)."""
    only_base: int
    """Episodes that only the base ran."""
    only_candidate: int
    """Episodes that only the candidate ran."""


def pair(base: Side, candidate: Side) -> Pairing:
    """Pair two sides by episode key, in the base's order."""
    found = pc.index_in(base.keys, value_set=candidate.keys).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(~np.isnan(found.astype(float)))
    matched = found[rows].astype(np.int64)
    return Pairing(rows, matched, base.n - rows.size, candidate.n - rows.size)


def _variants(episodes: pa.Table) -> list[PolicyAtNfe]:
    unique = episodes.select(["policy_id", "nfe"]).group_by(["policy_id", "nfe"]).aggregate([])
    pairs = map(PolicyAtNfe, unique["policy_id"].to_pylist(), unique["nfe"].to_pylist())
    return sorted(pairs, key=lambda key: (key[0] or "", key[1] or 0))


def _rows_of(episodes: pa.Table, variant: PolicyAtNfe) -> pa.Table:
    policy, nfe = variant
    same_policy = pc.equal(episodes["policy_id"], policy) if policy is not None else pc.is_null(episodes["policy_id"])
    same_nfe = pc.is_null(episodes["nfe"]) if nfe is None else pc.fill_null(pc.equal(episodes["nfe"], nfe), False)
    return episodes.filter(pc.and_(same_policy, same_nfe))


def _side(
    path: str,
    variant: PolicyAtNfe,
    rows: pa.Table,
    manifests: dict[str, dict[str, Any]],
    status: str | None,
    stated: Mapping[str, PolicyIdentity],
) -> Side:
    digests = sorted(value for value in rows["checkpoint_sha256"].unique().to_pylist() if value)
    differ = differing_parts(digests, stated)
    if differ:
        raise LedgerError(
            f"{path!r}: policy {variant[0]!r} has {len(digests)} different checkpoints "
            f"({', '.join(digest[:12] for digest in digests)}, which differ in {', '.join(differ)}). Evaluate each in "
            "a ledger of its own."
        )
    kept = last_attempts(rows)
    checkpoints = sorted(value for value in rows["checkpoint"].unique().to_pylist() if value)
    return Side(
        path=path,
        policy_id=variant[0],
        nfe=variant[1],
        checkpoint=checkpoints[-1] if checkpoints else None,
        hardware=tuple(sorted(value for value in rows["hardware"].unique().to_pylist() if value)),
        manifests=manifests,
        status=status,
        keys=kept["episode_key"].combine_chunks(),
        outcomes=pc.index_in(kept["outcome"], value_set=_CODES).to_numpy().astype(np.int8),
        details=kept.select(_DETAILS),
        repeated=rows.num_rows - kept.num_rows,
    )


def last_attempts(rows: pa.Table) -> pa.Table:
    """Keep one row per episode key: the last attempt that finished, or the last one when none did.

    Raises:
        LedgerError: A row has no outcome or no key.
    """
    for column in ("episode_key", "outcome"):
        if rows[column].null_count:
            raise LedgerError(f"{rows[column].null_count} episodes have no {column}: the ledger is damaged.")
    if len(pc.unique(rows["episode_key"])) == rows.num_rows:
        return rows
    codes = rows["episode_key"].combine_chunks().dictionary_encode().indices.to_numpy()
    finished = pc.not_equal(rows["outcome"], "error").to_numpy()
    started = rows["started_at"].cast(pa.int64()).fill_null(-1).to_numpy()
    attempt = rows["attempt"].fill_null(-1).to_numpy()
    order = np.lexsort((attempt, started, finished, codes))
    last = order[np.flatnonzero(np.diff(codes[order], append=-1))]
    return rows.take(pa.array(np.sort(last)))


def _read_runs(
    location: Location,
) -> tuple[dict[str, dict[str, Any]], str | None, dict[str, PolicyIdentity]]:
    """Manifests by suite, the last run's status, and the identities that runs state, by digest."""
    rows = read_rows(location, "runs", ["run_id", "protocol", "status", "policies"])
    last: dict[str, dict[str, Any]] = {row["run_id"]: row for row in rows}
    manifests: dict[str, dict[str, Any]] = {}
    for row in last.values():
        for suite, manifest in _parsed(row["protocol"]).items():
            require_equal_manifests(manifests.setdefault(suite, manifest), manifest)
    # Runs stand in the order in which they began: a row's place in the dictionary is that of its first state.
    status = next((row["status"] for row in reversed(last.values())), None)
    return manifests, status, stated_identities(row["policies"] for row in rows)


def _parsed(protocol: str | None) -> dict[str, Any]:
    parsed = json.loads(protocol) if protocol else {}
    return parsed if isinstance(parsed, dict) else {}


def match_variants(base: Sequence[Side], candidate: Sequence[Side]) -> list[tuple[Side, Side]]:
    """Decide which variants to compare: the same policy and NFE on both sides, or the only one of each side.

    Raises:
        UsageError: Several variants and none in common; lists them and says how to choose.
    """
    if not base or not candidate:
        return []
    others = {(side.policy_id, side.nfe): side for side in candidate}
    same = [(side, others[(side.policy_id, side.nfe)]) for side in base if (side.policy_id, side.nfe) in others]
    if same:
        return same
    if len(base) == len(candidate) == 1:
        return [(base[0], candidate[0])]
    nfes = {side.nfe: side for side in candidate}
    if len({side.policy_id for side in base}) == len({side.policy_id for side in candidate}) == 1:
        same = [(side, nfes[side.nfe]) for side in base if side.nfe in nfes]
        if same:
            return same
    listing = [describe_variants((side.policy_id, side.nfe) for side in sides) for sides in (base, candidate)]
    raise UsageError(
        f"Nothing on the two sides has the same policy and NFE. Base has {listing[0]}; candidate has {listing[1]}. "
        "Choose one of each with --base-policy, --base-nfe, --policy and --nfe."
    )
