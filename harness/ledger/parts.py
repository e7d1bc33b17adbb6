"""Read the parts of one table. A part that cannot be read is an error that names it: nothing is skipped in silence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import LedgerError, NoLedgerError
from harness.ledger.schema import SCHEMA_VERSION, TABLES
from harness.ledger.storage import PART, Location

VERSION_KEY = b"vla_harness.schema_version"
"""Key of the schema version in a part's file metadata."""

_READERS = 8
MIN_ROWS = 100_000
"""Rows from which a part has to have at least a byte for each: keys and samples hardly compress, a bomb does."""


def read_table(
    location: Location, table: str, columns: Sequence[str] | None = None, *, parts: Sequence[str] | None = None
) -> pa.Table:
    """Read all parts of a table, oldest part first, in the current schema.

    Args:
        location: Directory or bucket of the ledger.
        table: Table name.
        columns: Columns to keep; None for all.
        parts: Which parts, by path; None for those that are there now.

    Raises:
        LedgerError: A part is corrupt, or of a newer schema version; names the file.
    """
    schema = TABLES[table]
    wanted = list(columns) if columns is not None else schema.names
    paths = list(parts) if parts is not None else location.parts(table)
    if not paths:
        return schema.empty_table().select(wanted)
    with ThreadPoolExecutor(min(_READERS, len(paths))) as pool:
        tables = list(pool.map(lambda path: _read_part(location, table, path, wanted), paths))
    return pa.concat_tables(tables)


def read_rows(location: Location, table: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Read a (small) table as Python rows; see `read_table`."""
    rows: list[dict[str, Any]] = read_table(location, table, columns).to_pylist()
    return rows


def _read_part(location: Location, table: str, path: str, columns: list[str]) -> pa.Table:
    try:
        with location.filesystem.open_input_file(path) as source:
            part = pq.ParquetFile(source)
            held = part.schema_arrow
            _check_version(held)
            _check_rows(part.metadata.num_rows, source.size())
            names = set(held.names)
            wanted = [name for name in columns if name in names]
            rows = part.read(columns=None if wanted == held.names else wanted)
        return fill_missing(rows, pa.schema([TABLES[table].field(name) for name in columns]))
    except LedgerError as error:
        raise LedgerError(f"Cannot read {path!r}. {error}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise LedgerError(
            f"Cannot read {path!r}: {reason}. The part is damaged: restore it from a copy, or move it out of the "
            "ledger and run again with --resume to repeat what it held."
        ) from error


def _check_version(schema: pa.Schema) -> None:
    metadata = schema.metadata or {}
    if VERSION_KEY not in metadata:
        raise LedgerError(
            "It states no ledger schema version, so this harness did not write it. Move it out of the ledger."
        )
    version = int(metadata[VERSION_KEY])
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"It was written with ledger schema version {version}; this harness reads up to {SCHEMA_VERSION}. "
            "Upgrade vla-harness to read it."
        )


def _check_rows(rows: int, size: int) -> None:
    if rows > max(MIN_ROWS, size):
        raise LedgerError(f"It states {rows:,} rows in {size:,} bytes, which no ledger has. Move it out of the ledger.")


def fill_missing(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring rows to a schema: columns that they lack become null, so that ledgers of before still read."""
    if rows.schema.equals(schema):
        # A run's parts are many and small: taking each of them apart would take longer than reading them.
        return rows.replace_schema_metadata(schema.metadata)
    held = {name: rows.column(name) for name in rows.column_names}
    return pa.table([_as_type(held.get(field.name), field.type, rows.num_rows) for field in schema], schema=schema)


def _as_type(column: pa.ChunkedArray | None, kind: pa.DataType, n: int) -> pa.ChunkedArray | pa.Array:
    if column is None:
        return pa.nulls(n, kind)
    return column if column.type == kind else column.cast(kind)


def locate_ledger(path: str | Path) -> Location:
    """Locate a ledger.

    Args:
        path: Its directory, or a `pyarrow.fs` URI.

    Raises:
        NoLedgerError: No such directory, or it holds no table.
    """
    location = Location.of(path)
    if location.exists() and any(location.parts(table) for table in TABLES):
        return location
    around = _around(str(path).rstrip("/"))
    if around is not None:
        raise NoLedgerError(f"{str(path)!r} is only a part of the ledger {around!r}: give that directory.")
    if location.is_local and os.path.isfile(location.root):
        raise NoLedgerError(f"{str(path)!r} is a file; a ledger is a directory: the --out of a run or probe.")
    if not location.exists():
        raise NoLedgerError(f"There is no ledger at {str(path)!r}: no such directory. Check the path.")
    raise NoLedgerError(
        f"There is no ledger at {str(path)!r}: it holds none of the tables {', '.join(TABLES)}. "
        "Give the --out directory of a run or probe."
    )


def _around(path: str) -> str | None:
    """The ledger that a path leads into, where it names one of its tables or parts; None of any other path."""
    folder, _, last = path.rpartition("/")
    if PART.match(last):
        folder, _, last = folder.rpartition("/")
    if last not in (*TABLES, "summary"):
        return None
    holder = Location.of(folder or (os.curdir if "/" not in path else "/"))
    return (folder or os.curdir) if any(holder.parts(table) for table in TABLES) else None
