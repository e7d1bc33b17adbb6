"""Write a finished ledger again with one part a table: a run of 8,000 episodes leaves 18,000 small files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from harness.errors import UsageError
from harness.ledger.attempts import SERIES
from harness.ledger.copy import copy_ledger
from harness.ledger.reader import Ledger
from harness.ledger.schema import TABLES
from harness.ledger.storage import Location
from harness.ledger.writer import LedgerWriter


def compact_ledger(source: str | Path, target: str | Path) -> dict[str, int]:
    """Copy a ledger into a new place with one part a table.

    Every attempt of every episode stays. Decisions that belong to no row of `episodes` (a crash came between) are left
    out: no reader counts them. What is no table (videos, a stop record) is copied byte by byte.

    Args:
        source: Ledger; path or URI. It is not changed.
        target: Directory or URI that holds no ledger yet.

    Returns:
        Table → rows written.

    Raises:
        NoLedgerError: No ledger at `source`.
        LedgerError: A damaged part, or writing failed.
        UsageError: `target` holds a ledger already, or one of the two lies inside the other.
    """
    ledger, there = Ledger(source), Location.of(target)
    if there.exists():
        raise UsageError(f"{there.label!r} holds a ledger already; name a new directory to compact {source} into.")
    # What is no table first, `runs` last: a copy that was cut off is visibly not a whole ledger.
    copy_ledger(source, target, skip=frozenset(TABLES))
    writer, written = LedgerWriter(target), {}
    for table in sorted(TABLES, key=lambda name: name == "runs"):
        rows = ledger.rows(table)
        if table == "decisions":
            rows = _of_known_episodes(rows, ledger.rows("episodes"))
        writer.append(table, rows)
        written[table] = rows.num_rows
    return written


def _of_known_episodes(decisions: pa.Table, episodes: pa.Table) -> pa.Table:
    known = pa.array(_series(episodes).to_pylist(), pa.string()).unique()
    return decisions.filter(pc.is_in(_series(decisions), value_set=known))


def _series(rows: pa.Table) -> pa.ChunkedArray:
    """One text per row: run, policy, NFE and episode."""
    columns = [pc.fill_null(rows[name].cast(pa.string()), "") for name in SERIES]
    return pc.binary_join_element_wise(*columns, "\n")
