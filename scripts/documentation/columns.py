"""The ledger's tables and columns, and those of its aggregates, from the schemas that write them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from harness.analysis.aggregates import VERSION
from harness.ledger.schema import SCHEMA_VERSION, TABLES
from harness.report.contents import AGGREGATES


def render() -> str:
    """Every table with its columns as Markdown: name, type, unit and description."""
    sections = [f"Schema version {SCHEMA_VERSION}."]
    sections += [_section(table, _metadata(schema.metadata, "description"), schema) for table, schema in TABLES.items()]
    return "\n\n".join(sections)


def render_aggregates() -> str:
    """Every file of `summary/` with its columns, as Markdown."""
    sections = []
    for name, aggregate in AGGREGATES.items():
        sections.append(_section(f"summary/{name}.parquet", "", [column.field for column in aggregate.columns]))
    return "\n\n".join([f"Version {VERSION}.", *sections])


def _section(title: str, about: str, fields: Iterable[pa.Field]) -> str:
    head = "| column | type | unit | what it holds |\n| :--- | :--- | :--- | :--- |"
    rows = "\n".join(map(_row, fields))
    return "\n\n".join(part for part in (f"### {title}", about, f"{head}\n{rows}") if part)


def _row(column: pa.Field) -> str:
    unit, about, values = (
        _metadata(column.metadata, key).replace("|", "\\|") for key in ("unit", "description", "values")
    )
    about += f" One of: {values}." if values else ""
    return f"| `{column.name}` | {column.type} | {unit} | {about} |"


def _metadata(metadata: dict[bytes, bytes] | None, key: str) -> str:
    return (metadata or {}).get(key.encode(), b"").decode()
