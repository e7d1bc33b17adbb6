"""Published latencies beside measured ones, and predictions held against them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.predict.prediction import STEP, MeasuredSource, Prediction, predict, target_for
from harness.errors import SpecError
from harness.spec.profile import HardwareProfile, load_profile
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


class BackTest(NamedTuple):
    """One published figure and its prediction."""

    source: MeasuredSource
    published: Mapping[str, Any]
    prediction: Prediction
    error: float
    """Predicted over published, less one."""
    reason: str


def load_published() -> pd.DataFrame:
    """The shipped latencies: columns of `reports/published/latency.csv`, `nfe` nullable.

    Raises:
        SpecError: The file is not there.
    """
    return published_csv("latency.csv", {"nfe": "Int32", "batch": "Int32", "profile": "string", "note": "string"})


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


def back_test(sources: Sequence[MeasuredSource], published: pd.DataFrame) -> list[BackTest]:
    """Predict every published decision of the same stack from every comparable source, and say how far off it is.

    Comparable: a plain eager LeRobot policy of the same model at batch 1. The published device needs a profile.
    """
    rows = published[
        (published["stack"] == STACK)
        & (published["component"] == "e2e")
        & (published["kind"] == "measured")
        & published["profile"].notna()
    ]
    found = []
    for source in sources:
        policy = str(source.configuration["policy_id"])
        eager = pd.isna(source.configuration["compile"]) or source.configuration["compile"] == "eager"
        if not eager or not is_plain(policy) or source.configuration["batch_size"] != 1:
            continue
        own = rows[rows["model"] == model_of(policy)]
        for record in own.to_dict("records"):
            row = {str(key): value for key, value in record.items()}
            target = load_profile(str(row["profile"]))
            prediction = predict(source, target_for(target, source, _profile(source)), int(row["nfe"]))
            error = prediction.likely / float(row["latency_ms"]) - 1
            reason = _reason(prediction, row, own[own["profile"] == row["profile"]])
            found.append(BackTest(source, row, prediction, error, reason))
    return found


def _profile(source: MeasuredSource) -> HardwareProfile | None:
    hardware = source.configuration["hardware"]
    return None if pd.isna(hardware) else load_profile(str(hardware))


def _reason(prediction: Prediction, row: Mapping[str, Any], device: pd.DataFrame) -> str:
    """Which part of a decision is off: the step, or what runs once; from the two NFE values of one publication."""
    where = "inside" if prediction.low <= float(row["latency_ms"]) <= prediction.high else "outside"
    split = _split(row, device)
    if split is None:
        return f"{where} the band"
    step, fixed = split
    calls = prediction.nfe or 1
    scale = prediction.likely / sum(part.likely * (calls if part.component == STEP else 1) for part in prediction.parts)
    mine = scale * sum(part.likely for part in prediction.parts if part.component == STEP)
    once = prediction.likely - mine * calls
    told = f"{where} the band; a step {mine:.3g} for {step:.3g} ms, the rest {once:.3g} for {fixed:.3g} ms"
    if mine <= 0 or once <= 0 or step <= 0 or fixed <= 0:
        return told
    off_step, off_fixed = step / mine, fixed / once
    if off_fixed > 2 and off_step < 2:
        return (
            f"{told}: what runs once takes {off_fixed:.1f} times as long there and a step {off_step:.1f} times. The "
            "memory's speed would slow both alike; precision or kernels of vision and prefix would not"
        )
    return f"{told}: {off_step:.2f} and {off_fixed:.2f} times as long there"


def _split(row: Mapping[str, Any], device: pd.DataFrame) -> tuple[float, float] | None:
    """(a step, what runs once), ms, from a publication's times at two NFE values."""
    same = device[device["source"] == row["source"]].sort_values("nfe")
    few, many = same.iloc[0], same.iloc[-1]
    if few["nfe"] == many["nfe"]:
        return None
    step = (float(many["latency_ms"]) - float(few["latency_ms"])) / int(many["nfe"] - few["nfe"])
    return step, float(few["latency_ms"]) - step * int(few["nfe"])
