"""The durable unit: Parquet tables, appended and read."""

from harness.ledger.reader import Identity, Ledger, finished_identities, read
from harness.ledger.schema import COMPONENTS, OUTCOMES, SCHEMA_VERSION, TABLES
from harness.ledger.writer import LedgerWriter

__all__ = [
    "LedgerWriter",
    "Ledger",
    "read",
    "finished_identities",
    "Identity",
    "TABLES",
    "SCHEMA_VERSION",
    "OUTCOMES",
    "COMPONENTS",
]
