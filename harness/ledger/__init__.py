"""The durable unit: Parquet tables, appended and read.

Importing this package imports no pandas: what appends rows needs none, and it takes a third of a worker's imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.ledger.schema import COMPONENTS, OUTCOMES, SCHEMA_VERSION, TABLES
from harness.ledger.writer import LedgerWriter
from harness.schedule.units import EpisodeIdentity

if TYPE_CHECKING:
    from harness.ledger.reader import Ledger, finished_identities, open_ledger, read

__all__ = [
    "LedgerWriter",
    "Ledger",
    "open_ledger",
    "read",
    "finished_identities",
    "EpisodeIdentity",
    "TABLES",
    "SCHEMA_VERSION",
    "OUTCOMES",
    "COMPONENTS",
]


def __getattr__(name: str) -> Any:
    if name in ("Ledger", "finished_identities", "open_ledger", "read"):
        from importlib import import_module

        return getattr(import_module("harness.ledger.reader"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
