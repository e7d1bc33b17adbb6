"""How simulated time passes while a policy decides: a suite's clocks, and where its delays come from."""

from __future__ import annotations

import math
import re
from typing import Any, Literal, get_args

from pydantic import model_validator

from harness.errors import UsageError, unknown_name
from harness.spec.resolve import SpecModel

ClockName = Literal["synchronous", "blocking", "asynchronous", "rtc", "wall"]
"""How simulated time passes while the policy decides; see `harness.clocks`."""
CLOCKS: tuple[ClockName, ...] = get_args(ClockName)
SYNCHRONOUS: ClockName = "synchronous"

SourceKind = Literal["constant", "ledger", "device", "published"]
SOURCE_KINDS: tuple[SourceKind, ...] = get_args(SourceKind)

_DURATION = re.compile(r"(?P<number>[+-]?[\w.]+?(?:e[+-]?\d+)?)(?P<unit>ms|s)")


class Latency(SpecModel):
    """Where the delays of decisions come from. In YAML the source's text, or a mapping."""

    source: str
    """"constant:180ms"; "ledger:PATH" (a device's own samples, replayed); "device:PROFILE" (what `harness predict`
    says, its band as low, mid and high; "device:PROFILE:mid" for one of them); "published:PROFILE" (a figure of
    `reports/published`)."""
    timing_of: str | None = None
    """Policy whose timing is used in place of the evaluated one's own; for a device or published figures also an
    architecture by name, e.g. pi05."""
    predict_from: str | None = None
    """Ledger of a probe from which a device is predicted; null: from the architecture that `timing_of` names."""
    network: str | None = None
    """Time on the network to add to each decision: "constant:20ms", or "samples:FILE" with one number of milliseconds a
    line."""
    sensor: str | None = None
    """Age of an observation when it reaches the policy (camera, USB, decoding), written as `network` is."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return {"source": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _refuse_nonsense(self) -> Latency:
        try:
            kind, value = self.parts
            if kind == "constant":
                milliseconds(value)
            for name, text in (("network", self.network), ("sensor", self.sensor)):
                if text is not None:
                    check_term(name, text)
        except UsageError as error:
            raise ValueError(str(error)) from error
        if self.predict_from is not None and kind != "device":
            raise ValueError(f"predict_from says what a device is predicted from, but the source is {self.source!r}")
        if self.timing_of is not None and kind == "constant":
            raise ValueError(f"timing_of names a policy that was timed, but {self.source!r} is nobody's timing")
        return self

    @property
    def text(self) -> str:
        """The source, with what else is said of it."""
        more = self.model_dump(exclude_none=True, exclude={"source"})
        return self.source + (f" ({', '.join(f'{name}: {value}' for name, value in more.items())})" if more else "")

    @property
    def parts(self) -> tuple[SourceKind, str]:
        """(kind, value) of the source.

        Raises:
            UsageError: Another kind, or no value.
        """
        kind, _, value = self.source.partition(":")
        if kind not in SOURCE_KINDS:
            raise unknown_name("source of latency", kind, SOURCE_KINDS)
        if not value:
            raise UsageError(f"The source of latency {self.source!r} lacks what follows the colon: {_example(kind)}.")
        return next(known for known in SOURCE_KINDS if known == kind), value


def _example(kind: str) -> str:
    examples = {
        "constant": "constant:180ms",
        "ledger": "ledger:reports/examples/h100-latency/pi05",
        "device": "device:jetson-agx-orin-64gb",
        "published": "published:dgx-spark-gb10",
    }
    return f"e.g. {examples[kind]}"


def check_term(name: str, text: str) -> tuple[str, str]:
    """Take apart a term that is added to a delay: "constant:20ms" or "samples:FILE".

    Returns:
        (kind, value).

    Raises:
        UsageError: It is neither, or no duration; names the term.
    """
    kind, _, value = text.partition(":")
    if kind not in ("constant", "samples") or not value:
        raise UsageError(f"{name} is {text!r}; write constant:20ms, or samples:FILE with one number of ms a line.")
    if kind == "constant":
        try:
            milliseconds(value)
        except UsageError as error:
            raise UsageError(f"{name} is {text!r}: {error}") from error
    return kind, value


def milliseconds(text: str) -> float:
    """Parse a duration such as "180ms" or "0.18s".

    Raises:
        UsageError: No duration, negative, or not finite.
    """
    match = _DURATION.fullmatch(text.strip())
    try:
        number = float(match["number"]) if match else math.nan
    except ValueError:
        number = math.nan
    if match is None or not math.isfinite(number):
        raise UsageError(f"{text!r} is no duration; write milliseconds or seconds, e.g. 180ms or 0.18s.")
    if number < 0:
        raise UsageError(
            f"A delay of {text} is negative: no decision is in hand before its observation. Give 0ms or more."
        )
    return number * (1e3 if match["unit"] == "s" else 1.0)
