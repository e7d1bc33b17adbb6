"""A table of text, which every rendering shows in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

Records = list[dict[str, Any]]
"""Rows of a data frame, as dictionaries."""


@dataclass(frozen=True)
class Table:
    """A table of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    """How many leading columns are text; the others hold numbers."""
    note: str = ""
    """How the numbers were obtained."""
    key: tuple[str, ...] = ()
    """Lines that stand above the rows: what all share, and what letters stand for."""


def records(frame: pd.DataFrame) -> Records:
    """Rows as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
