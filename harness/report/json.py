"""A report, and the prefix with its floors, as JSON for other tools."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.aggregates import arrow_table
from harness.analysis.summary import Summary
from harness.ledger import Ledger
from harness.report.contents import AGGREGATES
from harness.report.opening import opening


def render_report_json(content: Ledger | Summary) -> str:
    """Render a report: `title`, `sentence`, `notices`, and `aggregates`: what `summary/*.parquet` holds.

    Each aggregate has `columns` (name, unit and description) and `rows`, a list of flat objects.
    """
    summary = Summary.of(content)
    said = opening(summary)
    aggregates = {
        name: {
            "columns": [
                {"name": part.name, "unit": part.unit, "description": part.description} for part in aggregate.columns
            ],
            "rows": plain(arrow_table(aggregate, summary, name).to_pylist()),
        }
        for name, aggregate in AGGREGATES.items()
    }
    notices = [{"level": notice.level, "title": notice.title, "text": notice.text} for notice in said.notices]
    return _written({"title": said.title, "sentence": said.sentence, "notices": notices, "aggregates": aggregates})


def render_prefix_json(summary: Summary) -> str:
    """One object: `sweep`, `prefix`, `roofline` and `claims`, each a list of flat objects; times in ms."""
    content = {
        "sweep": plain(summary.sweep.to_dict("records")),
        "prefix": plain(summary.prefix.to_dict("records")),
        "roofline": plain(summary.roofline.to_dict("records")),
        "claims": plain([{**claim.configuration, **_told(claim._asdict())} for claim in summary.claims]),
    }
    return _written(content)


def _written(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _told(claim: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in claim.items() if name != "configuration"}


def plain(value: Any) -> Any:
    """Turn what pandas and numpy make into JSON's own types; what is missing becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if pd.isna(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
