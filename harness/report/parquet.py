"""The aggregates as Parquet, for other tools: `summary/NAME.parquet`, rewritten whenever their ledger has grown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness.analysis.aggregates import arrow_table
from harness.analysis.summary import Summary
from harness.errors import HarnessError
from harness.ledger import Ledger
from harness.ledger.storage import Location
from harness.report.contents import AGGREGATES

FOLDER = "summary"
"""Folder of a ledger that holds its aggregates. It is derived: no analysis reads it, and a copy leaves it out."""


def write_parquet(content: Ledger | Summary, directory: str | Path) -> list[str]:
    """Write every aggregate, an empty one too, so that none of before is left beside those of now.

    Args:
        content: A ledger, or several read as one: pooled over all of them.
        directory: Directory or `pyarrow.fs` URI; created if missing.

    Returns:
        Paths of the files.

    Raises:
        LedgerError: The directory cannot be written; names it.
    """
    summary = Summary.of(content)
    location = replace(Location.of(directory), noun="folder", option="--parquet")
    written = []
    for name, aggregate in AGGREGATES.items():
        sink = pa.BufferOutputStream()
        pq.write_table(arrow_table(aggregate, summary, name), sink)
        location.write_file(f"{name}.parquet", sink.getvalue())
        written.append(f"{str(directory).rstrip('/')}/{name}.parquet")
    return written


def write_summary(content: Ledger | Summary, say: Callable[[str], None]) -> None:
    """Write the aggregates of one ledger into its own `summary` folder, at the end of a run or probe.

    Args:
        content: The ledger, or its summary.
        say: Told if the folder cannot be written: the rows are safe, and `harness report --parquet` writes it again.
    """
    summary = Summary.of(content)
    (path,) = summary.ledger.paths
    try:
        write_parquet(summary, f"{path.rstrip('/')}/{FOLDER}")
    except HarnessError as error:
        say(f"warning: the aggregates were not written; `harness report {path} --parquet DIR` does. {error}")
