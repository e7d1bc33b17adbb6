"""The prefix, floors and verdicts as JSON, for other tools."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.latency.prefix import nfe_sweep
from harness.analysis.latency.roofline import claims
from harness.report.summary import Summary


def render_prefix_json(summary: Summary) -> str:
    """One object: `sweep`, `prefix`, `roofline` and `claims`, each a list of flat objects; times in ms."""
    content = {
        "sweep": plain(nfe_sweep(summary.ledger.latency).to_dict("records")),
        "prefix": plain(summary.prefix.to_dict("records")),
        "roofline": plain(summary.roofline.to_dict("records")),
        "claims": plain([{**claim.configuration, **_told(claim._asdict())} for claim in claims(summary.roofline)]),
    }
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
