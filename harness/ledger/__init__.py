"""The durable unit: Parquet tables, appended and read."""

from harness.ledger.reader import Ledger, finished_identities, open_ledger, read
from harness.ledger.schema import COMPONENTS, OUTCOMES, SCHEMA_VERSION, TABLES
from harness.ledger.writer import LedgerWriter
from harness.schedule.units import EpisodeIdentity

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
