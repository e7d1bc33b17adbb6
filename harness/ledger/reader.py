"""Open ledgers: each table is read once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import LedgerError, UsageError, unknown_name
from harness.ledger.attempts import (
    IDENTITY,
    contradictory_keys,
    last_attempts,
    last_states,
    surviving_decisions,
    with_clock,
)
from harness.ledger.identities import require_one_identity, stated_identities
from harness.ledger.parts import locate_ledger, read_table
from harness.ledger.schema import COLUMNS, TABLES
from harness.ledger.storage import Location
from harness.notebook import ShownInNotebooks
from harness.schedule.units import EpisodeIdentity
from harness.spec.identity import PolicyIdentity
from harness.spec.manifest import require_equal_manifests
from harness.strict_json import read_object

_PANDAS_TYPES = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
_LARGE = ("episodes", "decisions", "latency")
"""Tables whose columns are read apart, as they are asked for."""


class Ledger(ShownInNotebooks):
    """One or several ledgers, opened once and read as far as is asked for.

    The frames (`episodes`, `decisions`, …) are pandas with its nullable integers and booleans; times are UTC. An
    episode that was tried more than once counts once: the last attempt that finished (success or timeout), or the last
    one at all when none did; `decisions` holds those of the attempts that count. The same holds for an episode that
    stands in several ledgers.
    """

    def __init__(self, *paths: str | Path, all_attempts: bool = False) -> None:
        """Locate the ledgers; nothing is read yet.

        Args:
            paths: Directories or `pyarrow.fs` URIs.
            all_attempts: Keep every attempt of every episode, and its decisions.

        Raises:
            NoLedgerError: No ledger at a path.
            UsageError: No path.
        """
        if not paths:
            raise UsageError("No ledger was named. Give at least one path.")
        self.paths = tuple(str(path) for path in paths)
        """Where it is read from."""
        self._locations = [locate_ledger(path) for path in paths]
        self._all_attempts = all_attempts
        self._parts: dict[str, list[list[str]]] = {}
        self._held: dict[str, pa.Table] = {}

    @property
    def path(self) -> str:
        """The path, or all of them separated by spaces."""
        return " ".join(self.paths)

    def rows(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of a table as they were appended, every attempt and state of them, oldest part first.

        Args:
            table: Table name.
            columns: Columns to read; None for all.

        Raises:
            LedgerError: A damaged part (names it), or a newer schema version.
        """
        wanted = list(columns) if columns is not None and table in _LARGE else TABLES[table].names
        held: pa.Table = self._held.get(table)
        absent = wanted if held is None else [name for name in wanted if name not in held.column_names]
        if held is None or absent:
            # Parts that appear later, in a ledger that is being written, would have columns of another length.
            parts = self._parts.setdefault(table, [location.parts(table) for location in self._locations])
            read = pa.concat_tables(
                [read_table(place, table, absent, parts=own) for place, own in zip(self._locations, parts, strict=True)]
            )
            read = with_clock(read)
            for name in held.column_names if held is not None else ():
                read = read.append_column(held.schema.field(name), held[name])
            self._held[table] = held = read
        return held.select(list(columns) if columns is not None else TABLES[table].names)

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """One row per episode (or per attempt, if asked for): columns of the schema's `episodes`.

        Raises:
            LedgerError: One policy's name stands for several checkpoints.
        """
        every = self.rows("episodes")
        require_one_identity(every.select(["policy_id", "checkpoint_sha256"]).to_pandas(), self.identities)
        return _to_pandas(every if self._all_attempts else last_attempts(every))

    @cached_property
    def retried(self) -> pd.DataFrame:
        """One row per attempt that ended as an error and does not count, since a later one of its episode does."""
        every = self.rows("episodes")
        placed = every.append_column("_place", pa.array(range(every.num_rows), pa.int64()))
        counts = pc.is_in(placed["_place"], value_set=last_attempts(placed)["_place"].combine_chunks())
        return _to_pandas(every.filter(pc.and_(pc.invert(counts), pc.equal(every["outcome"], "error"))))

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """One row per policy decision of the attempts that count."""
        return self._surviving[0]

    @cached_property
    def latency(self) -> pd.DataFrame:
        """One row per latency sample."""
        return _to_pandas(self.rows("latency"))

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """One row per run and node; `versions` holds dicts."""
        nodes = _to_pandas(self.rows("nodes"))
        return nodes.drop_duplicates(["run_id", "node_id"], keep="last", ignore_index=True)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run: its last state; `versions` holds dicts."""
        return _to_pandas(self._states)

    @cached_property
    def counts(self) -> pd.DataFrame:
        """One row per counted component of a configuration; `flops_by_format` holds dicts."""
        return _to_pandas(self.rows("counts"))

    @cached_property
    def differences(self) -> pd.DataFrame:
        """One row per configuration of a variant, compared with its reference."""
        return _to_pandas(self.rows("differences"))

    @cached_property
    def usage(self) -> pd.DataFrame:
        """One row per node and second or so of a run's rollouts: who was busy."""
        return _to_pandas(self.rows("usage"))

    @cached_property
    def motion(self) -> pd.DataFrame:
        """One row per attempt of a run with videos: where the end effector went, and what the gripper was told."""
        return _to_pandas(self.rows("motion"))

    @cached_property
    def duplicates(self) -> pd.DataFrame:
        """One row per episode that ended a second time, on another node: its rows count nowhere."""
        return _to_pandas(self.rows("duplicates"))

    @cached_property
    def canaries(self) -> pd.DataFrame:
        """One row per keyed episode, frame or decision that a node repeated before a run of unlike nodes."""
        return _to_pandas(self.rows("canaries"))

    @cached_property
    def phases(self) -> pd.DataFrame:
        """One row per phase of a run."""
        return _to_pandas(self.rows("phases"))

    @cached_property
    def plans(self) -> pd.DataFrame:
        """One row per run: what it was expected to take, stored before its first episode."""
        return _to_pandas(self.rows("plans"))

    @cached_property
    def manifests(self) -> dict[str, dict[str, Any]]:
        """LIBERO suite → protocol manifest.

        Raises:
            UsageError: Two runs had different manifests for a suite (names key and values).
        """
        found: dict[str, dict[str, Any]] = {}
        for protocol in self._states["protocol"].to_pylist():
            for suite, manifest in read_manifests(protocol).items():
                require_equal_manifests(found.setdefault(suite, manifest), manifest)
        return found

    def manifest(self, suite: str) -> dict[str, Any]:
        """Protocol manifest of a LIBERO suite.

        Raises:
            UsageError: No run has this suite, or two runs have different manifests for one (names key and values).
        """
        if suite not in self.manifests:
            known = ", ".join(sorted(self.manifests)) or "none"
            raise UsageError(f"No run in {self.path!r} has a protocol for suite {suite!r}. Known: {known}.")
        return self.manifests[suite]

    @staticmethod
    def columns(table: str) -> pd.DataFrame:
        """What stands in a frame: its columns with type, unit and description.

        Args:
            table: "episodes", "decisions", "latency", …: the name of the frame.

        Raises:
            UsageError: There is no such table; the nearest is named.
        """
        if table not in COLUMNS:
            raise unknown_name("ledger table", table, COLUMNS)
        rows = [(each.name, str(each.type), each.unit or "", each.description) for each in COLUMNS[table]]
        return pd.DataFrame(rows, columns=["column", "type", "unit", "description"]).set_index("column")

    @property
    def status(self) -> str | None:
        """Status of the run that began last; None without runs."""
        states: list[str | None] = self._states["status"].to_pylist()
        return states[-1] if states else None

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What a reader of episodes and decisions has to know before the numbers, in sentences."""
        said = []
        if repeated := len(contradictory_keys(self.rows("episodes"))):
            said.append(
                f"{repeated} episodes finished more than once with different outcomes, though they have one key: the "
                "last one is counted. Rows of two experiments may have been mixed."
            )
        twice = self.duplicates
        if unequal := int((~twice["equal"].fillna(True).astype(bool)).sum()):
            pairs = twice.loc[~twice["equal"].fillna(True).astype(bool), ["node_id", "counted_node_id"]]
            said.append(
                f"{unequal} of {len(twice)} episodes that two nodes ran went another way on the second (e.g. on "
                f"{pairs['node_id'].iloc[0]} and {pairs['counted_node_id'].iloc[0]}): outcomes depend on the machine."
            )
        if outside := int((self.episodes["canary"] == "outside").sum()):
            said.append(
                f"{outside} of {len(self.episodes)} episodes ran on machines outside the tolerance of the canaries "
                "(table `canaries`): do not pool them with the rest in silence."
            )
        if broken := self._surviving[1]:
            said.append(f"{broken} episodes have no whole series of decisions: theirs are left out.")
        return tuple(said)

    @cached_property
    def _states(self) -> pa.Table:
        return last_states(self.rows("runs"))

    @cached_property
    def identities(self) -> dict[str, PolicyIdentity]:
        """Digest → identity, of every policy of which a run states one."""
        return stated_identities(self.rows("runs")["policies"].to_pylist())

    @cached_property
    def _surviving(self) -> tuple[pd.DataFrame, int]:
        """The decisions that count, and the number of episodes that lack theirs."""
        every = _to_pandas(self.rows("decisions"))
        return (every, 0) if self._all_attempts else surviving_decisions(every, self.episodes)


def open_ledger(source: str | Path | Ledger) -> Ledger:
    """Open a ledger; one that is open already stays as it is, with what it has read."""
    return source if isinstance(source, Ledger) else Ledger(source)


def read(*paths: str | Path, all_attempts: bool = False) -> Ledger:
    """Read one ledger, or several as one, whole: see `Ledger` for what counts.

    Args:
        paths: Directories or `pyarrow.fs` URIs.
        all_attempts: Keep every attempt of every episode.

    Raises:
        LedgerError: No ledger at a path; a damaged part (names it); a newer schema version; or ledgers that do not
            belong together (one policy with two checkpoints).
        UsageError: The ledgers ran one suite under different protocols (names key and values).
    """
    ledger = Ledger(*paths, all_attempts=all_attempts)
    for table in TABLES:
        getattr(ledger, table)
    _ = ledger.manifests
    return ledger


def finished_identities(path: str | Path) -> set[EpisodeIdentity]:
    """Identities of the episodes that need not run again: those that ended in success or timeout.

    Reads six columns. A directory without a ledger has none.

    Raises:
        LedgerError: A damaged part, or a newer schema version.
    """
    episodes = with_clock(read_table(Location.of(path), "episodes", [*IDENTITY, "outcome"]))
    done = episodes.filter(pc.is_in(episodes["outcome"], value_set=pa.array(["success", "timeout"])))
    columns = [done[name].to_pylist() for name in IDENTITY]
    return set(zip(*columns, strict=True))


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(types_mapper=_PANDAS_TYPES.get, maps_as_pydicts="strict")
    return frame


def read_manifests(protocol: str | None) -> dict[str, dict[str, Any]]:
    """LIBERO suite → protocol manifest: one value of `runs.protocol`.

    Raises:
        LedgerError: It is no JSON object.
    """
    try:
        manifests = read_object(protocol, finite=False) if protocol else {}
    except ValueError as error:
        raise LedgerError(f"A run's protocol cannot be read ({error}): the ledger is damaged.") from error
    return {suite: manifest for suite, manifest in manifests.items() if isinstance(manifest, dict)}
