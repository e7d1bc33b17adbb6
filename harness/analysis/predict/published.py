"""Published figures, and latencies beside measured ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.latency.percentiles import CONFIGURATION
from harness.errors import SpecError
from harness.spec.resolve import resource_dirs

KIND = "reports/published"
STACK = "LeRobot"
"""Stack of the published rows that a LeRobot ledger can be held against."""

MODELS = ("pi05", "pi0_fast", "pi0", "smolvla", "groot", "openvla-oft", "openvla")
"""Models as policy names contain them, the longer names first."""
_SPELT = {"pi0-fast": "pi0_fast", "gr00t": "groot"}
"""Other spellings of models."""

_CHANGED = ("quantize", "vision", "merge_cameras", "cameras", "graphs", "compile", "tf32")
"""Options that make a policy another one than what the published rows ran."""


def load_published() -> pd.DataFrame:
    """The shipped latencies: columns of `reports/published/latency.csv`, `nfe` nullable.

    Raises:
        SpecError: The file is not there.
    """
    return published_csv(
        "latency.csv",
        {
            **dict.fromkeys(("nfe", "batch", "views", "text_tokens"), "Int32"),
            **dict.fromkeys(("profile", "note", "family", "execution", "format"), "string"),
        },
    )


def published_csv(name: str, types: Mapping[str, str]) -> pd.DataFrame:
    """A shipped table of published figures, with the types of some of its columns.

    Raises:
        SpecError: The file is not there.
    """
    for folder in resource_dirs(KIND):
        path = folder / name
        if path.is_file():
            return pd.read_csv(path, dtype=dict(types))
    raise SpecError(f"There is no {KIND}/{name}, neither here nor in the package; install vla-harness again.")


def model_of(policy_id: str) -> str | None:
    """The model that a policy's name speaks of, as published rows name it; None for none known.

    The options are no part of it: "flow?from=pi05" is no Pi0.5.
    """
    name = str(policy_id).partition("?")[0].lower()
    for other, model in _SPELT.items():
        name = name.replace(other, model)
    return next((model for model in MODELS if re.search(rf"(?<![a-z0-9]){model}(?![0-9])", name)), None)


def is_plain(policy_id: str) -> bool:
    """Whether a policy runs as LeRobot runs it: no option changes its precision, its cameras or its graph."""
    options = [part.partition("=")[0] for part in str(policy_id).partition("?")[2].split("&")]
    return not set(options) & set(_CHANGED)


def beside(latency: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Set published decisions beside the measured ones of the same model and NFE, whatever the device.

    Args:
        latency: `Ledger.latency`.
        published: From `load_published`.

    Returns:
        Rows of `published` (whole decisions, batch 1) of the measured models with `measured` (ms, median),
        `measured_on` and `ratio` (measured over published), measured at batch 1 on the same profile; where that device
        was not measured, these are missing.
    """
    e2e = latency[(latency["component"] == "e2e") & (latency["batch_size"].fillna(1) == 1)]
    e2e = e2e.assign(model=e2e["policy_id"].map(model_of))
    models = set(e2e["model"].dropna())
    rows = []
    published = published.assign(known_as=published["model"].map(model_of))
    whole = published[(published["component"] == "e2e") & published["known_as"].isin(models)]
    for row in whole.to_dict("records"):
        same = e2e[(e2e["model"] == row["known_as"]) & (e2e["nfe"] == row["nfe"]).fillna(False)]
        own = same[same["hardware"] == row["profile"]] if pd.notna(row["profile"]) else same.iloc[:0]
        groups = own.groupby(CONFIGURATION, dropna=False)["latency_ms"]
        found = [_measured(key, float(group.median()), float(row["latency_ms"])) for key, group in groups]
        rows += [{**row, **columns} for columns in found] or [row]
    columns = [*published.columns.drop("known_as"), "measured", "measured_on", "ratio"]
    return pd.DataFrame(rows, columns=columns)


def _measured(key: Any, value: float, published: float) -> dict[str, Any]:
    named = dict(zip(CONFIGURATION, key, strict=True))
    parts = [str(named[name]) for name in ("policy_id", "dtype", "compile") if pd.notna(named[name])]
    return {"measured": value, "measured_on": ", ".join(parts), "ratio": value / published}
