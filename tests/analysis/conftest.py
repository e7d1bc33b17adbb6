"""Frames with the types that real ledgers give: written and read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.ledger import Ledger, LedgerWriter, read

Rows = Sequence[Mapping[str, Any]]


@pytest.fixture
def ledger_of(tmp_path: Path) -> Callable[..., Ledger]:
    def build(**tables: Rows) -> Ledger:
        writer = LedgerWriter(tmp_path)
        writer.append("runs", [{"run_id": "r"}])
        for table, rows in tables.items():
            writer.append(table, rows)
        return read(tmp_path)

    return build
