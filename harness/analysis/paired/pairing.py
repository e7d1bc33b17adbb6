"""Read one checkpoint's episodes and pair them with another's, in Arrow: a million episodes fit in seconds."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from harness.analysis.intervals import Floats
from harness.analysis.success.credit import scores
from harness.errors import LedgerError, UsageError
from harness.ledger import Ledger, open_ledger
from harness.ledger.attempts import contradictory_keys, last_attempts
from harness.ledger.identities import differing_parts
from harness.spec.manifest import require_equal_manifests
from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import SYNCHRONOUS

TIMEOUT, SUCCESS, ERROR = 0, 1, 2
"""Outcome codes. A timeout is a failure of the policy; an error is nobody's result."""

Codes = NDArray[np.int8]

_CODES = pa.array(["timeout", "success", "error"])
_COLUMNS = [
    *("run_id", "episode_key", "suite", "task_id", "task", "init_state_id", "trial", "policy_id", "nfe", "checkpoint"),
    *("checkpoint_sha256", "outcome", "attempt", "started_at", "video", "hardware", "node_id", "canary"),
    *("goals", "goals_held_best", "stage"),
    *("clock", "latency_source"),
    # Of `wall_clock`: asked for here, so that each part is opened once.
    *("reset_s", "physics_s", "render_s", "policy_wait_s", "wall_s"),
]
_DETAILS = ("suite", "task_id", "task", "init_state_id", "trial", "video", "run_id", "node_id", "canary")


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
    clock: str = SYNCHRONOUS
    """How simulated time passed while the policy decided."""
    latency_source: str | None = None
    """Where the delays of its decisions come from."""
    runs: frozenset[str] = frozenset()
    """Ids of the runs that these episodes come from."""
    scores: Floats | None = None
    """Partial credit of each episode, aligned with `keys`, NaN where it is not known; None when none is."""
    suites: tuple[str, ...] = ()
    """Suites of those runs, YAML."""
    contradictory: tuple[str, ...] = ()
    """Keys of episodes that finished more than once with different outcomes; the last outcome is counted."""

    @property
    def variant(self) -> PolicyAtNfe:
        """Policy and NFE."""
        return PolicyAtNfe(self.policy_id, self.nfe)

    @property
    def timing(self) -> tuple[str, str | None]:
        """(clock, source of delays)."""
        return (self.clock, self.latency_source)

    @property
    def label(self) -> str:
        """Name in reports: policy, NFE, and the clock where it is not the synchronous one."""
        told = "" if self.clock == SYNCHRONOUS else f", {describe_timing(*self.timing)}"
        return self.variant.label + told

    @property
    def n(self) -> int:
        """Number of episodes, errors included."""
        return len(self.keys)


def describe_timing(clock: str, latency_source: str | None) -> str:
    """A clock and its source of delays: "asynchronous:constant:180ms"."""
    return clock if latency_source is None else f"{clock}:{latency_source}"


def read_sides(
    source: str | Path | Ledger, *, policy: str | None = None, nfe: int | None = None, clock: str | None = None
) -> list[Side]:
    """Read every (policy, NFE, clock, source of delays) of a ledger that matches.

    Args:
        source: Ledger: a directory, a `pyarrow.fs` URI, or one that is open.
        policy: Only this policy_id.
        nfe: Only this NFE.
        clock: Only this clock, "asynchronous", or this clock with this source of delays, "asynchronous:constant:180ms".

    Returns:
        One side per variant, sorted; empty when the ledger has no episodes at all (a probe's ledger).

    Raises:
        LedgerError: No ledger there (NoLedgerError), a damaged part, or one policy with two checkpoints.
        UsageError: Nothing matches `policy`, `nfe` and `clock`; names what there is.
    """
    ledger = open_ledger(source)
    episodes = ledger.rows("episodes", _COLUMNS)
    cells = _cells(episodes)
    present = list(dict.fromkeys(variant for variant, _ in cells))
    wanted = [key for key in cells if policy in (None, key[0].policy_id) and nfe in (None, key[0].nfe)]
    if wanted and clock is not None:
        timings = dict.fromkeys(describe_timing(*timing) for _, timing in wanted)
        wanted = [key for key in wanted if clock in (key[1][0], describe_timing(*key[1]))]
        if not wanted:
            raise UsageError(f"{ledger.path!r} has no episodes under {clock!r}. It has: {', '.join(timings)}.")
    if present and not wanted:
        asked = describe_variants([(policy or "any policy", nfe)])
        near = difflib.get_close_matches(policy or "", [key[0] for key in present if key[0]], n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near and near[0] != policy else ""
        raise UsageError(f"{ledger.path!r} has no episodes of {asked}.{hint} It has: {describe_variants(present)}.")
    whole = len(cells) == 1
    return [_side(ledger, key, episodes if whole else _rows_of(episodes, key)) for key in wanted]


def describe_variants(variants: Iterable[tuple[str | None, int | None]]) -> str:
    """List policies at their NFE for a message."""
    return ", ".join(PolicyAtNfe(policy_id, nfe).label for policy_id, nfe in variants) or "none"


def last_status(path: str | Path) -> str | None:
    """Status of a ledger's last run; None when it has none."""
    return open_ledger(path).status


def restrict(side: Side, keys: Collection[str]) -> Side:
    """Keep only the episodes with certain keys."""
    kept = pc.is_in(side.keys, value_set=pa.array(sorted(keys), pa.string()))
    return replace(
        side,
        keys=side.keys.filter(kept),
        outcomes=side.outcomes[kept.to_numpy(False)],
        scores=None if side.scores is None else side.scores[kept.to_numpy(False)],
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


def _timings(sides: Sequence[Side]) -> list[str]:
    return list(dict.fromkeys(describe_timing(*side.timing) for side in sides))


def require_same_clock(base: Side, candidate: Side, *, allow_clock: bool = False) -> None:
    """Refuse to pair rows of two clocks, or of two sources of delays: they answer different questions.

    Raises:
        UsageError: Names both, and how to pair them all the same.
    """
    if base.timing != candidate.timing and not allow_clock:
        told = [describe_timing(*side.timing) for side in (base, candidate)]
        raise UsageError(
            f"{base.path} ran under the clock {told[0]}, {candidate.path} under {told[1]}: the difference would be the "
            "clock's as well as the policy's. To pair them all the same, say --allow clock."
        )


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


Timed = tuple[PolicyAtNfe, tuple[str, str | None]]
"""A policy at an NFE, under (clock, source of delays)."""


def _cells(episodes: pa.Table) -> list[Timed]:
    names = ["policy_id", "nfe", "clock", "latency_source"]
    unique = episodes.select(names).group_by(names).aggregate([])
    rows = zip(*(unique[name].to_pylist() for name in names), strict=True)
    cells = [(PolicyAtNfe(policy, nfe), (clock, source)) for policy, nfe, clock, source in rows]
    return sorted(cells, key=lambda key: (key[0][0] or "", key[0][1] or 0, key[1][0] != SYNCHRONOUS, str(key[1])))


def _rows_of(episodes: pa.Table, cell: Timed) -> pa.Table:
    (policy, nfe), (clock, source) = cell
    kept = pc.equal(episodes["clock"], clock)
    for name, value in (("policy_id", policy), ("nfe", nfe), ("latency_source", source)):
        column = episodes[name]
        same = pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, value), False)
        kept = pc.and_(kept, same)
    return episodes.filter(kept)


def _side(ledger: Ledger, cell: Timed, rows: pa.Table) -> Side:
    variant, timing = cell
    digests = sorted(value for value in rows["checkpoint_sha256"].unique().to_pylist() if value)
    differ = differing_parts(digests, ledger.identities)
    if differ:
        raise LedgerError(
            f"{ledger.path!r}: policy {variant[0]!r} has {len(digests)} different checkpoints "
            f"({', '.join(digest[:12] for digest in digests)}, which differ in {', '.join(differ)}). Evaluate each in "
            "a ledger of its own."
        )
    kept = last_attempts(rows)
    runs = frozenset(str(run) for run in rows["run_id"].unique().to_pylist() if run)
    texts = zip(*(ledger.rows("runs")[column].to_pylist() for column in ("run_id", "suite")), strict=True)
    checkpoints = sorted(value for value in rows["checkpoint"].unique().to_pylist() if value)
    return Side(
        path=ledger.path,
        policy_id=variant[0],
        nfe=variant[1],
        clock=timing[0],
        latency_source=timing[1],
        checkpoint=checkpoints[-1] if checkpoints else None,
        hardware=tuple(sorted(value for value in rows["hardware"].unique().to_pylist() if value)),
        manifests=ledger.manifests,
        status=ledger.status,
        keys=kept["episode_key"].combine_chunks(),
        outcomes=pc.index_in(kept["outcome"], value_set=_CODES).to_numpy().astype(np.int8),
        details=kept.select(_DETAILS),
        repeated=rows.num_rows - kept.num_rows,
        runs=runs,
        suites=tuple(dict.fromkeys(text for run, text in texts if run in runs and text)),
        scores=_scores(kept),
        contradictory=contradictory_keys(rows) if kept.num_rows < rows.num_rows else (),
    )


def _scores(rows: pa.Table) -> Floats | None:
    """Partial credit of surviving attempts; None where no row tells of goals."""
    if rows["goals"].null_count == rows.num_rows:
        return None
    found = scores(
        pc.equal(rows["outcome"], "success").to_numpy(),
        rows["goals"].cast(pa.float64()).fill_null(np.nan).to_numpy(),
        rows["goals_held_best"].cast(pa.float64()).fill_null(np.nan).to_numpy(),
        rows["stage"].to_numpy(),
    )
    found[pc.equal(rows["outcome"], "error").to_numpy()] = np.nan
    return found


def match_variants(
    base: Sequence[Side], candidate: Sequence[Side], *, allow_clock: bool = False
) -> list[tuple[Side, Side]]:
    """Decide which variants to compare: the same policy, NFE and clock on both sides, or the only one of each side.

    Args:
        base: Sides of one ledger.
        candidate: Sides of the other.
        allow_clock: Whether rows of two clocks, or of two sources of delays, may be paired.

    Raises:
        UsageError: Several variants and none in common; lists them and says how to choose. Or the two were run under
            different clocks, and that is not allowed.
    """
    if not base or not candidate:
        return []
    others = {(side.variant, side.timing): side for side in candidate}
    same = [(side, others[side.variant, side.timing]) for side in base if (side.variant, side.timing) in others]
    if same:
        return same
    if len(base) == len(candidate) == 1:
        require_same_clock(base[0], candidate[0], allow_clock=allow_clock)
        return [(base[0], candidate[0])]
    crossed = [(old, new) for old in base for new in candidate if old.variant == new.variant]
    if crossed:
        if not allow_clock:
            require_same_clock(*crossed[0], allow_clock=False)
        pairs = [(old.variant, new.variant) for old, new in crossed]
        if len(set(pairs)) == len(pairs):
            return crossed
        clocks = [
            ", ".join(dict.fromkeys(describe_timing(*side.timing) for side in sides)) for sides in (base, candidate)
        ]
        raise UsageError(
            f"It is unclear which clocks to pair. Base has {clocks[0]}; candidate has {clocks[1]}. Choose one of each "
            "with --base-clock and --clock."
        )
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
