"""How numbers, intervals and names are written, the same in every rendering."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any

import pandas as pd

from harness.spec.policy import PolicyAtNfe

NONE = "–"
"""What stands where there is no number."""


def known(value: Any) -> bool:
    """Whether a cell of a data frame holds a value."""
    return value is not None and not bool(pd.isna(value))


def variant(policy_id: Any, nfe: Any) -> str:
    """A policy at an NFE, as `PolicyAtNfe` spells it, from cells of a data frame."""
    return PolicyAtNfe(str(policy_id) if known(policy_id) else None, int(nfe) if known(nfe) else None).label


def text(value: Any) -> str:
    """A text cell."""
    return str(value) if known(value) else NONE


def task_name(value: Any) -> str:
    """A LIBERO task name as the sentence it stands for."""
    return text(value).replace("_", " ")


def count(value: Any) -> str:
    """An integer with thousands separators."""
    return f"{int(value):,}" if known(value) else NONE


def percent(value: Any) -> str:
    """A fraction as a percentage: one decimal, none when it is a whole number of per cent."""
    if not known(value):
        return NONE
    scaled = 100 * float(value)
    return f"{scaled:.0f} %" if abs(scaled - round(scaled)) < 1e-9 else f"{scaled:.1f} %"


def points(value: Any) -> str:
    """A difference of rates in points of a per cent, with its sign: "-1.2"."""
    return f"{100 * float(value):+.1f}" if known(value) else NONE


def probability(p: Any) -> str:
    """A p value; very small ones as a bound."""
    if not known(p):
        return NONE
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}".rstrip("0").rstrip(".") if p < 1 else "1"


def percent_interval(low: Any, high: Any) -> str:
    """An interval of fractions: "76.4–99.1 %"."""
    return f"{100 * float(low):.1f}–{100 * float(high):.1f} %" if known(low) and known(high) else NONE


def number(value: Any) -> str:
    """Three significant digits, without an exponent: 0.0123, 1.23, 12.3, 123, 1,234."""
    if not known(value) or not math.isfinite(float(value)):
        return NONE
    magnitude = abs(float(value))
    if magnitude == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(magnitude)))
    # Rounding may add a digit: 9.996 is 10.0, not 10.00.
    decimals -= decimals > 0 and round(magnitude, decimals) >= 10 ** (3 - decimals)
    return f"{float(value):,.{min(decimals, 4)}f}"


def number_interval(low: Any, high: Any) -> str:
    """An interval of numbers, "26.0–26.4"; none when a bound is missing."""
    return f"{number(low)}–{number(high)}" if known(low) and known(high) else NONE


def duration(seconds: Any) -> str:
    """Seconds as "0.41 s", "12.3 s", "3 min 05 s", "2 h 07 min"."""
    if not known(seconds):
        return NONE
    value = float(seconds)
    if value < 99.95:
        return f"{number(value)} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(value: Any) -> str:
    """A time in UTC, to the second."""
    if not known(value):
        return NONE
    time: datetime = pd.Timestamp(value).to_pydatetime(warn=False)
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def gibibytes(value: Any) -> str:
    """Bytes as GiB."""
    return f"{number(float(value) / 2**30)} GiB" if known(value) else NONE


_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def sort_value(cell: str) -> float | None:
    """What a cell of text is sorted by: its fraction, its duration, or its first number; None without one."""
    if found := re.match(r"(\d[\d,]*)/(\d[\d,]*)", cell):
        part, whole = (float(each.replace(",", "")) for each in found.groups())
        return part / whole if whole else None
    parts = re.findall(r"(\d+(?:\.\d+)?) (h|min|s)\b", cell)
    if parts:
        return sum(float(value) * _UNITS[unit] for value, unit in parts)
    first = re.match(r"\W*?(-?\d[\d,]*(?:\.\d+)?)", cell)
    return float(first.group(1).replace(",", "")) if first else None
