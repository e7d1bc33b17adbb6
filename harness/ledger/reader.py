"""Read ledgers into pandas frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import LedgerError, UsageError
from harness.ledger.identities import differing_parts, stated_identities
from harness.ledger.parts import locate_ledger, read_table
from harness.ledger.schema import TABLES
from harness.ledger.storage import Location
from harness.schedule.units import EpisodeIdentity
from harness.spec.manifest import require_equal_manifests

_PANDAS_TYPES = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


@dataclass(frozen=True)
class Ledger:
    """One or several ledgers, in memory. Integers and booleans are pandas' nullable ones; times are UTC."""

    paths: tuple[str, ...]
    """Where it was read from."""
    episodes: pd.DataFrame
    """One row per episode (or per attempt, if asked for): columns of the schema's `episodes`."""
    decisions: pd.DataFrame
    """One row per policy decision."""
    latency: pd.DataFrame
    """One row per latency sample."""
    nodes: pd.DataFrame
    """One row per run and node; `versions` holds dicts."""
    runs: pd.DataFrame
    """One row per run: its last state; `versions` holds dicts."""
    counts: pd.DataFrame
    """One row per counted component of a configuration; `flops_by_format` holds dicts."""
    differences: pd.DataFrame
    """One row per configuration of a variant, compared with its reference."""

    @property
    def path(self) -> str:
        """The path, or all of them separated by spaces."""
        return " ".join(self.paths)

    def manifest(self, suite: str) -> dict[str, Any]:
        """Protocol manifest of a LIBERO suite.

        Raises:
            UsageError: No run has this suite, or two runs have different manifests for it (names key and values).
        """
        found = [manifests[suite] for manifests in map(_manifests, self.runs["protocol"]) if suite in manifests]
        if not found:
            known = sorted({name for protocol in self.runs["protocol"] for name in _manifests(protocol)})
            raise UsageError(
                f"No run in {self.path!r} has a protocol for suite {suite!r}. Known: {', '.join(known) or 'none'}."
            )
        for other in found[1:]:
            require_equal_manifests(found[0], other)
        manifest: dict[str, Any] = found[0]
        return manifest


def read(*paths: str | Path, all_attempts: bool = False) -> Ledger:
    """Read one ledger, or several as one.

    An episode that was tried more than once counts once: the last attempt that finished (success or timeout), or the
    last one at all when none did. The same holds for an episode that stands in several ledgers.

    Args:
        paths: Directories or `pyarrow.fs` URIs.
        all_attempts: Keep every attempt of every episode.

    Raises:
        LedgerError: No ledger at a path; a damaged part (names it); a newer schema version; or ledgers that do not
            belong together (one policy with two checkpoints).
        UsageError: The ledgers ran one suite under different protocols (names key and values).
    """
    if not paths:
        raise UsageError("No ledger was named. Give at least one path.")
    locations = [locate_ledger(path) for path in paths]
    frames = {
        table: _to_pandas(pa.concat_tables([read_table(location, table) for location in locations])) for table in TABLES
    }
    frames["runs"] = frames["runs"].drop_duplicates("run_id", keep="last", ignore_index=True)
    frames["nodes"] = frames["nodes"].drop_duplicates(["run_id", "node_id"], keep="last", ignore_index=True)
    _require_one_protocol(frames["runs"])
    _require_one_policy(frames["episodes"], frames["runs"])
    if not all_attempts:
        frames["episodes"] = _last_attempts(frames["episodes"])
    return Ledger(tuple(str(path) for path in paths), **frames)


def finished_identities(path: str | Path) -> set[EpisodeIdentity]:
    """Identities of the episodes that need not run again: those that ended in success or timeout.

    Reads four columns. A directory without a ledger has none.

    Raises:
        LedgerError: A damaged part, or a newer schema version.
    """
    episodes = read_table(Location.of(path), "episodes", ["policy_id", "nfe", "episode_key", "outcome"])
    done = episodes.filter(pc.is_in(episodes["outcome"], value_set=pa.array(["success", "timeout"])))
    columns = [done[name].to_pylist() for name in ("policy_id", "nfe", "episode_key")]
    return set(zip(*columns, strict=True))


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=_PANDAS_TYPES.get, maps_as_pydicts="strict")
    return frame


def _last_attempts(episodes: pd.DataFrame) -> pd.DataFrame:
    identity = ["policy_id", "nfe", "episode_key"]
    ranked = episodes.assign(_finished=episodes["outcome"] != "error").sort_values(
        ["_finished", "started_at", "attempt"], kind="stable", na_position="first"
    )
    kept = ranked.drop_duplicates(identity, keep="last").sort_index()
    return kept.drop(columns="_finished").reset_index(drop=True)


def _manifests(protocol: str | None) -> dict[str, Any]:
    parsed = json.loads(protocol) if isinstance(protocol, str) and protocol else {}
    return parsed if isinstance(parsed, dict) else {}


def _require_one_protocol(runs: pd.DataFrame) -> None:
    seen: dict[str, dict[str, Any]] = {}
    for protocol in runs["protocol"]:
        for suite, manifest in _manifests(protocol).items():
            require_equal_manifests(seen.setdefault(suite, manifest), manifest)


def _require_one_policy(episodes: pd.DataFrame, runs: pd.DataFrame) -> None:
    stated = stated_identities(runs["policies"].dropna())
    for policy, rows in episodes.groupby("policy_id", sort=False):
        digests: Sequence[str] = sorted(rows["checkpoint_sha256"].dropna().unique())
        differ = differing_parts(digests, stated)
        if differ:
            raise LedgerError(
                f"Policy {policy!r} has {len(digests)} different checkpoints in these ledgers "
                f"({', '.join(digest[:12] for digest in digests)}, which differ in {', '.join(differ)}), so their "
                "episodes cannot be merged. Report them one by one, or pair them with `harness compare`."
            )
