"""Pool ledgers of machines that never saw each other, if their rows may stand in one table."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import LedgerError, UsageError
from harness.ledger.attempts import contradictory_keys
from harness.ledger.copy import copy_ledger
from harness.ledger.reader import Ledger
from harness.ledger.schema import TABLES
from harness.ledger.storage import Location
from harness.ledger.writer import LedgerWriter


@dataclass
class MergeResult:
    """What a merge wrote."""

    rows: dict[str, int] = field(default_factory=dict)
    """Table → rows written."""
    runs: int = 0
    """Different runs and probes."""
    repeated: int = 0
    """Runs that stood in more than one of the ledgers: each is there once."""


def merge_ledgers(sources: Sequence[str | Path], target: str | Path) -> MergeResult:
    """Write the rows of several ledgers as one, every run once.

    Every attempt of every episode stays; readers count the surviving one. A run that stands in several of the ledgers
    (a copy, an earlier merge, a copy made while it ran) is taken from the one that holds most of it. What is no table,
    such as videos, is copied byte by byte. A merge that was cut off leaves nothing behind.

    Args:
        sources: Ledgers; paths or URIs. They are not changed.
        target: Directory or URI that does not exist yet.

    Raises:
        NoLedgerError: No ledger at one of the paths.
        UsageError: Two runs of one suite had different protocols (names every key and both values); `target` exists
            already, or lies inside a source.
        LedgerError: One policy's name stands for two checkpoints; one episode ended differently in two of the ledgers;
            two ledgers tell one run differently; a damaged part; or writing failed.
    """
    there = Location.of(target)
    if there.exists():
        raise UsageError(f"{there.label!r} exists already; name a new directory to merge into.")
    _require_comparable(sources)
    ledgers = [Ledger(source) for source in sources]
    owners, repeated = _owners(ledgers)
    _require_one_outcome([_owned(ledger, "episodes", own) for ledger, own in zip(ledgers, owners, strict=True)])
    try:
        result = _write(ledgers, owners, target)
    except BaseException:
        # It is ours alone: nothing lay there when the merge began.
        if there.is_local:
            shutil.rmtree(there.root, ignore_errors=True)
        raise
    result.repeated = repeated
    return result


def _require_comparable(sources: Sequence[str | Path]) -> None:
    together = Ledger(*sources)
    _ = together.manifests
    _ = together.episodes


def _owners(ledgers: Sequence[Ledger]) -> tuple[list[dict[str, set[str]]], int]:
    """For each ledger, by table, the runs whose rows are taken from it; and how many runs stood in several."""
    owners: list[dict[str, set[str]]] = [{table: set() for table in TABLES} for _ in ledgers]
    holders: Counter[str] = Counter()
    for ledger in ledgers:
        holders.update({run for table in TABLES for run in _counted(ledger, table)})
    for table in TABLES:
        counts = [_counted(ledger, table) for ledger in ledgers]
        for run in set().union(*counts):
            most = max(range(len(ledgers)), key=lambda i: (counts[i].get(run, 0), -i))
            for i, ledger in enumerate(ledgers):
                if i != most and run in counts[i]:
                    _require_part_of(run, table, ledger, ledgers[most])
            owners[most][table].add(run)
    return owners, sum(held > 1 for held in holders.values())


def _counted(ledger: Ledger, table: str) -> dict[str, int]:
    """Run → rows of it in a table."""
    return Counter(ledger.rows(table, ["run_id"])["run_id"].to_pylist())


def _require_part_of(run: str, table: str, part: Ledger, whole: Ledger) -> None:
    """Refuse two ledgers that tell one run differently: every row of one has to be a row of the other."""
    own, more = (Counter(map(repr, _of_runs(ledger, table, {run}).to_pylist())) for ledger in (part, whole))
    if strange := (own - more).total():
        raise LedgerError(
            f"{part.path} and {whole.path} tell run {run!r} differently: {strange} rows of its {table} stand in the "
            "first and not in the second. Two drivers may have resumed copies of it. Report them one by one."
        )


def _require_one_outcome(episodes: Sequence[pa.Table]) -> None:
    keys = contradictory_keys(pa.concat_tables(episodes))
    within = {key for table in episodes for key in contradictory_keys(table)}
    if across := [key for key in keys if key not in within]:
        raise LedgerError(
            f"{len(across)} episodes ended differently in two of these ledgers (first key {across[0][:12]}…), so they "
            "cannot stand in one: the machines differ, or one of the ledgers is another experiment. Compare them with "
            "`harness compare`."
        )


def _write(ledgers: Sequence[Ledger], owners: Sequence[dict[str, set[str]]], target: str | Path) -> MergeResult:
    result = MergeResult()
    for ledger in ledgers:
        for differing in copy_ledger(ledger.path, target, skip=frozenset(TABLES)).differing:
            raise LedgerError(
                f"{ledger.path}/{differing} differs from the file of that name in another of the ledgers."
            )
    writer = LedgerWriter(target)
    # `runs` last: a merge that was cut off is visibly not a whole ledger.
    for table in sorted(TABLES, key=lambda name: name == "runs"):
        rows = pa.concat_tables(_owned(ledger, table, own) for ledger, own in zip(ledgers, owners, strict=True))
        writer.append(table, rows)
        result.rows[table] = rows.num_rows
    result.runs = len(set().union(*(own["runs"] for own in owners)))
    return result


def _owned(ledger: Ledger, table: str, owners: dict[str, set[str]]) -> pa.Table:
    return _of_runs(ledger, table, owners[table])


def _of_runs(ledger: Ledger, table: str, runs: set[str]) -> pa.Table:
    rows = ledger.rows(table)
    return rows.filter(pc.is_in(rows["run_id"], value_set=pa.array(sorted(runs), pa.string())))
