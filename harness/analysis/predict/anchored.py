"""Predictions from a ledger, corrected by what is known of other devices and stacks; and how well that has done.

A published point of a stack that runs eagerly has the ledger's eager configuration as its nominal value, carried to the
point's device; a compiled one the ledger's compiled or captured configuration; an inference engine the roofline of the
architecture's description in the engine's number format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.predict.anchors import BAND, Anchor, AnchorModel, GivenPoint, Place
from harness.analysis.predict.prediction import (
    STEP,
    MeasuredSource,
    Prediction,
    predict,
    predict_architecture,
    target_for,
    target_for_description,
)
from harness.analysis.predict.published import STACK, is_plain, model_of
from harness.spec.architecture import Architecture, load_architecture
from harness.spec.profile import load_profile

DESCRIPTION = "pi05"
"""Description whose roofline is the nominal value of inference engines, for Pi0 too: the layers are the same."""
MIN_COVERAGE, MAX_ERROR = 0.85, 0.20
"""A back-test passes with this share of held-out points inside the 90 % band, and this median relative error."""


@dataclass(frozen=True)
class HeldOut:
    """A published figure, and its prediction by a model that knows nothing of the device."""

    published: Mapping[str, Any]
    prediction: Prediction
    reason: str
    """Whether the band holds it, and which part of a decision is off where a publication tells."""

    @property
    def inside(self) -> bool:
        """Whether it lies in the band."""
        return self.prediction.low <= float(self.published["latency_ms"]) <= self.prediction.high

    @property
    def error(self) -> float:
        """Predicted over published, less one."""
        return self.prediction.likely / float(self.published["latency_ms"]) - 1


@dataclass(frozen=True)
class Score:
    """What a back-test says of some points."""

    n: int
    inside: int
    median_error: float
    """Of the absolute relative errors."""

    @property
    def passes(self) -> bool:
        """Whether the band holds and the middle is near; not known of no points."""
        return self.n > 0 and self.inside >= MIN_COVERAGE * self.n and self.median_error <= MAX_ERROR

    @property
    def text(self) -> str:
        """In a sentence."""
        if not self.n:
            return "no published point to test it on"
        told = f"{self.inside} of {self.n} held-out published points inside the {100 * BAND:.0f} % band, median error "
        return f"{'passes' if self.passes else 'FAILS'}: {told}{100 * self.median_error:.1f} %"


def score(found: Sequence[HeldOut]) -> Score:
    """Score a back-test, or a part of one."""
    errors = [abs(item.error) for item in found]
    return Score(len(found), sum(item.inside for item in found), float(np.median(errors)) if errors else float("nan"))


class Anchored:
    """A configuration of a ledger with all that anchors it."""

    def __init__(
        self,
        source: MeasuredSource,
        among: Sequence[MeasuredSource],
        published: pd.DataFrame,
        given: Sequence[GivenPoint] = (),
    ) -> None:
        """Gather the anchors.

        Args:
            source: What is predicted from.
            among: Every configuration of the ledgers: the same on another device is an anchor; one that runs otherwise
                on the same device gives the nominal values of such stacks.
            published: From `load_published`; without rows, nothing shipped is used.
            given: Points that the user states.
        """
        self.source = source
        self._among = among
        self._model = model_of(str(source.configuration["policy_id"]))
        usable = published[published["execution"].notna() & published["profile"].notna() & published["nfe"].notna()]
        usable = usable[usable["component"] == "e2e"]
        self._rows = [{str(key): value for key, value in row.items()} for row in usable.to_dict("records")]
        self._given = given

    @property
    def applies(self) -> bool:
        """Whether anchors say anything of it: a published model, timed alone on a device with a profile."""
        hardware, batch = self.source.configuration["hardware"], self.source.configuration["batch_size"]
        published = {model_of(str(row["model"])) for row in self._rows}
        known = self._model in published or (bool(self._given) and self._model is not None)
        return isinstance(hardware, str) and (pd.isna(batch) or batch == 1) and known

    @cached_property
    def anchors(self) -> AnchorModel:
        """Own, given and published points."""
        found = [*self._own(), *(anchor for row in self._rows if (anchor := self._published(row)) is not None)]
        for point in self._given:
            row = {"profile": point.device, "model": self._model, "nfe": point.nfe, **self._stack(point.stack)}
            place = self._nominal(row)
            if place is not None:
                name = f"{point.device}, {point.stack}, NFE {point.nfe}: {point.latency_ms:g} ms (given)"
                found.append(Anchor(place[0], point.latency_ms, name))
        return AnchorModel(found)

    def predict(self, device: str, nfe: int | None) -> Prediction:
        """Carry the source to a device and correct it."""
        profile, like = load_profile(device), load_profile(str(self.source.configuration["hardware"]))
        plain = predict(self.source, target_for(profile, self.source, like), nfe)
        place = _place(plain, device, _family(self.source), _execution(self.source))
        return corrected(plain, self.anchors, place)

    def back_test(self, only: str = "") -> list[HeldOut]:
        """Predict each published point with all that is known of its device held out, own and given points too.

        Args:
            only: One device; empty for all. The source's own device cannot be held out.
        """
        return [item for item in self._held_out if only in ("", item.published["profile"])]

    @cached_property
    def _held_out(self) -> list[HeldOut]:
        found: list[HeldOut] = []
        own = self.source.configuration["hardware"]
        models: dict[str, AnchorModel] = {}
        for row in self._rows:
            device = str(row["profile"])
            nominal = self._nominal(row) if device != own else None
            if nominal is None:
                continue
            place, plain = nominal
            held_out = models.setdefault(device, self.anchors.without(device))
            prediction = corrected(plain, held_out, place)
            found.append(HeldOut(row, prediction, _reason(prediction, row, self._rows)))
        return found

    def near(self, device: str) -> list[Anchor]:
        """Anchors that say most of a device: on it, or of this stack."""
        return self.anchors.near(Place(device, _family(self.source), _execution(self.source), 1.0, 0.5))

    def _own(self) -> list[Anchor]:
        found = []
        for other in self._among:
            device = other.configuration["hardware"]
            if not isinstance(device, str) or not _is_same(self.source, other):
                continue
            for nfe, latency in other.e2e.items():
                like = load_profile(str(self.source.configuration["hardware"]))
                plain = predict(self.source, target_for(load_profile(device), self.source, like), nfe)
                place = _place(plain, device, _family(self.source), _execution(self.source))
                found.append(Anchor(place, latency, f"{device}, measured, NFE {nfe}: {latency:.3g} ms"))
        return found

    def _published(self, row: Mapping[str, Any]) -> Anchor | None:
        nominal = self._nominal(row)
        if nominal is None:
            return None
        name = f"{row['profile']}, {row['stack']}, NFE {row['nfe']}: {row['latency_ms']:g} ms ({row['source']})"
        return Anchor(nominal[0], float(row["latency_ms"]), name)

    def _stack(self, stack: str) -> dict[str, Any]:
        """What published rows say of a stack; one that they do not know is taken as an eager one of its own."""
        known = next((row for row in self._rows if stack in (row["stack"], row["family"])), None)
        names = ("stack", "family", "execution", "format", "views", "text_tokens")
        return (
            {name: known[name] for name in names} if known else {"stack": stack, "family": stack, "execution": "eager"}
        )

    def _nominal(self, row: Mapping[str, Any]) -> tuple[Place, Prediction] | None:
        """The nominal value of a point; None where the ledgers hold no configuration that runs like it."""
        device, nfe = str(row["profile"]), int(row["nfe"])
        if row["execution"] == "engine":
            described = _described(str(row["format"]), int(row["views"]), int(row["text_tokens"]))
            target = target_for_description(load_profile(device), described)
            plain = predict_architecture(described, target, nfe)
        else:
            source = self._runs_like(str(row["execution"]), model_of(str(row["model"])))
            if source is None or (_whole(source) and nfe not in source.e2e):
                return None
            like = load_profile(str(source.configuration["hardware"]))
            plain = predict(source, target_for(load_profile(device), source, like), nfe)
        return _place(plain, device, str(row["family"]), str(row["execution"])), plain

    def _runs_like(self, execution: str, model: str | None) -> MeasuredSource | None:
        """The plainest configuration of the source's device that executes so: the fewest options."""
        own = self.source.configuration
        found = [
            other
            for other in (self.source, *self._among)
            if other.configuration["hardware"] == own["hardware"]
            and (pd.isna(other.configuration["batch_size"]) or other.configuration["batch_size"] == 1)
            and _execution(other) == execution
            and model_of(str(other.configuration["policy_id"])) == model
            and (execution != "eager" or is_plain(str(other.configuration["policy_id"])))
        ]
        return min(found, key=lambda other: len(str(other.configuration["policy_id"])), default=None)


def corrected(plain: Prediction, anchors: AnchorModel, place: Place) -> Prediction:
    """A prediction with the band that anchors give it; its parts are scaled alike."""
    found = anchors.at(place)
    ratio = found.likely / plain.likely
    parts = tuple(
        part._replace(low=part.low * ratio, likely=part.likely * ratio, high=part.high * ratio) for part in plain.parts
    )
    return plain._replace(**found._asdict(), parts=parts)


def _place(plain: Prediction, device: str, family: str, execution: str) -> Place:
    steps = sum(part.likely * plain.calls(part) for part in plain.parts if part.component == STEP)
    total = sum(part.likely * plain.calls(part) for part in plain.parts)
    return Place(device, family, execution, plain.likely, 1 - steps / total)


def _execution(source: MeasuredSource) -> str:
    compiled = source.configuration["compile"]
    return "eager" if pd.isna(compiled) or compiled == "eager" else "compiled"


def _family(source: MeasuredSource) -> str:
    policy = str(source.configuration["policy_id"])
    return STACK if _execution(source) == "eager" and is_plain(policy) else source.name


def _is_same(one: MeasuredSource, other: MeasuredSource) -> bool:
    same = (one.configuration[key] == other.configuration[key] for key in ("policy_id", "dtype", "batch_size"))
    return all(same) and _execution(one) == _execution(other) and _family(one) == _family(other)


def _whole(source: MeasuredSource) -> bool:
    return any(part.nfe is not None for part in source.parts)


def _described(number_format: str, views: int, text: int) -> Architecture:
    """Pi0.5 in a number format, with so many cameras and text tokens."""
    precision = {"weights": number_format, "compute": number_format}
    content = load_architecture(DESCRIPTION).model_dump()
    per_view = content["towers"][0]["tokens"]
    before = per_view * content["towers"][0]["sequences"]
    tokens = per_view * views + text
    for tower in content["towers"]:
        tower["precision"] = precision
        changed = {"vision": {"sequences": views}, "prefix": {"tokens": tokens}, STEP: {"context": tokens}}
        tower.update(changed[tower["component"]])
        for dense in tower["dense"]:
            dense["precision"] = precision
            dense["tokens"] = per_view * views if dense["tokens"] == before else dense["tokens"]
    return Architecture.model_validate({**content, "precision": precision})


def _reason(prediction: Prediction, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Which part of a decision is off: the step, or what runs once; from the two NFE values of one publication."""
    where = "inside" if prediction.low <= float(row["latency_ms"]) <= prediction.high else "outside"
    split = _split(row, rows)
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


def _split(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """(a step, what runs once), ms, from a publication's times of a stack at two NFE values."""
    keys = ("profile", "source", "stack", "model")
    same = sorted(
        (other for other in rows if all(other[key] == row[key] for key in keys)), key=lambda other: int(other["nfe"])
    )
    few, many = same[0], same[-1]
    if few["nfe"] == many["nfe"]:
        return None
    step = (float(many["latency_ms"]) - float(few["latency_ms"])) / int(many["nfe"] - few["nfe"])
    return step, float(few["latency_ms"]) - step * int(few["nfe"])
