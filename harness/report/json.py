"""A report, and the prefix with its floors, as JSON for other tools."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.analysis.aggregates import arrow_table
from harness.analysis.summary import Summary
from harness.ledger import Ledger
from harness.report.answers import verdict
from harness.report.contents import AGGREGATES
from harness.report.names import variant_names
from harness.report.opening import opening
from harness.report.tables.table import Table

if TYPE_CHECKING:
    from harness.analysis.latency.scaling import ScalingClaim


def render_report_json(content: Ledger | Summary, published: Sequence[Table] | None = None) -> str:
    """Render a report as JSON text; see `report_dict`."""
    return json_text(report_dict(content, published))


def report_dict(content: Ledger | Summary, published: Sequence[Table] | None = None) -> dict[str, Any]:
    """A report: `verdict` in one line, `title`, `sentence`, `notices`, `aggregates`: what `summary/*.parquet` holds.

    `tiers` sets cost beside success, with `place` on the Pareto front and the paired evidence of what is dominated.

    `published` are the tables that set it beside what others published, as they are printed; null where nobody asked.

    Each aggregate has `columns` (name, unit and description) and `rows`, a list of flat objects.
    """
    summary = Summary.of(content)
    said = opening(summary)
    aggregates = {
        name: {
            "columns": [
                {"name": part.name, "unit": part.unit, "description": part.description} for part in aggregate.columns
            ],
            "rows": arrow_table(aggregate, summary, name).to_pylist(),
        }
        for name, aggregate in AGGREGATES.items()
    }
    notices = [{"level": notice.level, "title": notice.title, "text": notice.text} for notice in said.notices]
    return {
        "verdict": verdict(summary, variant_names(summary)),
        "title": said.title,
        "sentence": said.sentence,
        "notices": notices,
        "aggregates": aggregates,
        "tiers": summary.tiers.to_dict("records"),
        "published": None if published is None else [asdict(table) for table in published],
    }


def render_prefix_json(summary: Summary | None, across: Sequence[ScalingClaim] = ()) -> str:
    """One object: `sweep`, `prefix`, `roofline`, `claims` and `across`, each a list of flat objects; times in ms.

    Args:
        summary: Of the ledgers; None for published points alone, where only `across` has entries.
        across: Claims across devices.
    """
    content = {
        "sweep": summary.sweep.to_dict("records") if summary else [],
        "prefix": summary.prefix.to_dict("records") if summary else [],
        "roofline": summary.roofline.to_dict("records") if summary else [],
        "claims": [_flat(claim._asdict()) for claim in summary.claims] if summary else [],
        "across": [_across(claim) for claim in across],
    }
    return json_text(content)


def _across(claim: ScalingClaim) -> dict[str, Any]:
    ratios = {name: getattr(claim, name) for name in ("time_ratio", "resource_ratio", "gap")}
    return {
        "slow": claim.slow.name,
        "fast": claim.fast.name,
        "part": claim.part,
        "resource": claim.resource,
        "rates": claim.kind,
        "answer": claim.answer,
        **{name: ratio.value for name, ratio in ratios.items()},
        **{f"{name}_interval": list(ratio.interval) for name, ratio in ratios.items()},
    }


def _flat(claim: dict[str, Any]) -> dict[str, Any]:
    return {**claim.pop("configuration"), **claim}


def json_text(content: Any) -> str:
    """Write a document: what pandas and numpy make in JSON's own types, times as ISO 8601, what is missing as null."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime) and not pd.isna(value):
        return value.isoformat()
    if pd.isna(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
