"""From loose rows to Arrow tables of the ledger's schema: nothing unknown, mistyped or contradictory gets in."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from harness.errors import LedgerError, unknown_name
from harness.ledger.schema import COMPONENTS, OUTCOMES, TABLES


def schema_of(table: str) -> pa.Schema:
    """Schema of a table.

    Raises:
        LedgerError: No such table; answered with the nearest known one.
    """
    if table not in TABLES:
        raise LedgerError(str(unknown_name("ledger table", table, TABLES)))
    return TABLES[table]


def to_table(table: str, rows: Sequence[Mapping[str, Any]] | pa.Table) -> pa.Table:
    """Check rows against the schema and turn them into an Arrow table of exactly its columns.

    Args:
        table: Table name.
        rows: Mappings from column to value (absent columns become null), or an Arrow table.

    Raises:
        LedgerError: An unknown column, a value of the wrong type, or a row that contradicts itself; names table, column
            and value.
    """
    schema = schema_of(table)
    converted = _from_arrow(table, schema, rows) if isinstance(rows, pa.Table) else _from_rows(table, schema, rows)
    _check_rules(table, converted)
    return converted


def _from_rows(table: str, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    known = set(schema.names)
    for row in rows:
        if not row.keys() <= known:
            _refuse_columns(table, [name for name in row if name not in known], schema)
    columns = [_column(table, field, [row.get(field.name) for row in rows]) for field in schema]
    return pa.table(columns, schema=schema)


def _from_arrow(table: str, schema: pa.Schema, rows: pa.Table) -> pa.Table:
    unknown = [name for name in rows.column_names if name not in set(schema.names)]
    if unknown:
        _refuse_columns(table, unknown, schema)
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        try:
            columns.append(rows.column(field.name).cast(field.type))
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise LedgerError(
                f"Table {table!r}, column {field.name!r}: {rows.schema.field(field.name).type} does not convert to "
                f"{field.type} ({reason}). Give values of that type."
            ) from error
    return pa.table(columns, schema=schema)


def _refuse_columns(table: str, unknown: Sequence[str], schema: pa.Schema) -> None:
    raise LedgerError(f"Table {table!r}: {unknown_name('column', str(unknown[0]), schema.names)}")


def _column(table: str, field: pa.Field, values: list[Any]) -> pa.Array:
    accepts = _acceptor(field.type)
    for value in values:
        if value is not None and not accepts(value):
            _refuse_value(table, field, value)
    if pa.types.is_map(field.type):
        values = [None if value is None else list(value.items()) for value in values]
    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowException, OverflowError, ValueError):
        for value in values:
            try:
                pa.array([value], type=field.type)
            except (pa.ArrowException, OverflowError, ValueError):
                _refuse_value(table, field, value)
        raise


def _refuse_value(table: str, field: pa.Field, value: Any) -> None:
    shown = repr(value) if len(repr(value)) <= 200 else repr(value)[:200] + "…"
    hint = " (with a time zone)" if pa.types.is_timestamp(field.type) else ""
    raise LedgerError(
        f"Table {table!r}, column {field.name!r}: {shown} ({type(value).__name__}) is no {field.type}{hint}. "
        "Give a value of that type, or None."
    )


def _acceptor(kind: pa.DataType) -> Callable[[Any], bool]:
    """Predicate for Python values of an Arrow type: pyarrow itself would truncate 1.5 to an int32 of 1 in silence."""
    if pa.types.is_string(kind):
        return lambda value: isinstance(value, str)
    if pa.types.is_integer(kind):
        return lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    if pa.types.is_floating(kind):
        return lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if pa.types.is_boolean(kind):
        return lambda value: isinstance(value, bool | np.bool_)
    if pa.types.is_timestamp(kind):
        return lambda value: isinstance(value, datetime) and value.tzinfo is not None
    if pa.types.is_map(kind):
        key, item = _acceptor(kind.key_type), _acceptor(kind.item_type)
        return lambda value: isinstance(value, Mapping) and all(key(k) and item(v) for k, v in value.items())
    if pa.types.is_list(kind):
        member = _acceptor(kind.value_type)
        return lambda value: isinstance(value, list) and all(map(member, value))
    raise AssertionError(f"the schema uses a type without a check: {kind}")


def _check_rules(table: str, rows: pa.Table) -> None:
    if table == "episodes":
        for key, outcome, success in zip(*(rows[name].to_pylist() for name in _EPISODE_RULE), strict=True):
            _check_outcome(key, outcome, success)
    if table == "latency":
        for component, latency in zip(rows["component"].to_pylist(), rows["latency_ms"].to_pylist(), strict=True):
            _check_sample(component, latency)


_EPISODE_RULE = ("episode_key", "outcome", "success")


def _check_outcome(key: str | None, outcome: str | None, success: bool | None) -> None:
    where = f"Table 'episodes', episode_key {key!r}"
    if key is None:
        raise LedgerError(f"{where}: an episode without a key can be neither paired nor resumed. Give its key.")
    if outcome not in OUTCOMES:
        raise LedgerError(f"{where}, column 'outcome': {outcome!r} is no outcome. Known: {', '.join(OUTCOMES)}.")
    expected = None if outcome == "error" else outcome == "success"
    if success is not expected:
        raise LedgerError(
            f"{where}, column 'success': {success!r} contradicts outcome {outcome!r}. It has to be {expected!r}: an "
            "infrastructure error is neither a success nor a failure of the policy."
        )


def _check_sample(component: str | None, latency_ms: float | None) -> None:
    if component not in COMPONENTS:
        raise LedgerError(
            f"Table 'latency', column 'component': {component!r} is no component. Known: {', '.join(COMPONENTS)}."
        )
    if latency_ms is None or not math.isfinite(latency_ms) or latency_ms < 0:
        raise LedgerError(
            f"Table 'latency', column 'latency_ms': {latency_ms!r} is no duration. Leave out what was not measured."
        )
