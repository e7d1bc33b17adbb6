"""Older parts, read as if they had been written today."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import pyarrow as pa

from harness.errors import LedgerError
from harness.ledger.schema import SCHEMA_VERSION, TABLES

Migration = Callable[[str, pa.Table], pa.Table]

MIGRATIONS: Mapping[int, Migration] = MappingProxyType({})
"""Version n → function (table name, rows of version n) → rows of version n + 1. Empty: there is only version 1 yet."""


def upgrade(
    table: str,
    rows: pa.Table,
    version: int,
    *,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    current: int = SCHEMA_VERSION,
) -> pa.Table:
    """Bring rows of an older schema version to the current one.

    Columns that the current schema has and the rows lack become null, so a version that only adds columns needs no
    function of its own.

    Raises:
        LedgerError: The version is newer than this harness knows.
    """
    if version > current:
        raise LedgerError(
            f"It was written with ledger schema version {version}; this harness reads up to {current}. "
            "Upgrade vla-harness to read it."
        )
    for step in range(version, current):
        rows = migrations.get(step, _unchanged)(table, rows)
    schema = TABLES[table]
    present = set(rows.column_names)
    return pa.table(
        [
            rows.column(field.name).cast(field.type) if field.name in present else pa.nulls(rows.num_rows, field.type)
            for field in schema
        ],
        schema=schema,
    )


def _unchanged(table: str, rows: pa.Table) -> pa.Table:
    del table
    return rows
