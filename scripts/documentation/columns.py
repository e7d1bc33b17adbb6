"""The ledger's tables and columns, from the schema that writes them."""

from __future__ import annotations

import pyarrow as pa

from harness.ledger.schema import SCHEMA_VERSION, TABLES


def render() -> str:
    """Every table with its columns as Markdown: name, type, unit and description."""
    sections = [f"Schema version {SCHEMA_VERSION}."]
    for table, schema in TABLES.items():
        about = _metadata(schema.metadata, "description")
        rows = "\n".join(_row(each) for each in schema)
        head = "| column | type | unit | what it holds |\n| :--- | :--- | :--- | :--- |"
        sections.append("\n\n".join(part for part in (f"### {table}", about, f"{head}\n{rows}") if part))
    return "\n\n".join(sections)


def _row(column: pa.Field) -> str:
    unit, about, values = (
        _metadata(column.metadata, key).replace("|", "\\|") for key in ("unit", "description", "values")
    )
    about += f" One of: {values}." if values else ""
    return f"| `{column.name}` | {column.type} | {unit} | {about} |"


def _metadata(metadata: dict[bytes, bytes] | None, key: str) -> str:
    return (metadata or {}).get(key.encode(), b"").decode()
