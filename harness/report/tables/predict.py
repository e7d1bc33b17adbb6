"""Tables of `harness predict`, and of published figures beside measured ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from harness.analysis.predict.anchored import Anchored, HeldOut, score
from harness.analysis.predict.anchors import BAND
from harness.analysis.predict.prediction import KERNEL_US, MODEL_SPREAD, ROOFLINE_SHARE, STEP, Prediction
from harness.report.format import NONE, count, known, number, number_interval, percent, text
from harness.report.tables.table import Table, records


class Predicted(NamedTuple):
    """A prediction under a name, and what was measured there, if it was."""

    name: str
    stack: str
    prediction: Prediction
    measured: float | None = None
    """Milliseconds."""
    anchored: Anchored | None = None
    """What it was corrected by; None where nothing was."""
    described: bool = False
    """Whether it is of an architecture's description, of which no timing is known."""

    @property
    def error(self) -> float | None:
        """Predicted over measured, less one."""
        return None if self.measured is None else self.prediction.likely / self.measured - 1


def prediction_table(found: Sequence[Predicted]) -> Table:
    """One row per policy, device and NFE."""
    rows = tuple(_row(item) for item in found)
    columns = (
        *("policy", "stack", "device", "waits for", "fits", "NFE", "ms", "band", "Hz", "vision", "prefix", "a step"),
        *("memory GB", "measured", "error", "back-test"),
    )
    return Table("Predicted decisions, ms", columns, rows, 5, _note(found))


def _row(item: Predicted) -> tuple[str, ...]:
    found = item.prediction
    parts = {part.component: part.likely for part in found.parts}
    return (
        item.name,
        item.stack,
        found.target.name,
        found.bound,
        {True: "yes", False: "NO", None: NONE}[found.fits],
        count(found.nfe),
        number(found.likely),
        number_interval(found.low, found.high),
        number(1e3 / found.likely),
        *(number(parts.get(name)) for name in ("vision", "prefix", STEP)),
        number(found.memory_bytes / 1e9 if found.memory_bytes else None),
        number(item.measured),
        percent(round(item.error, 3)) if item.error is not None else NONE,
        _tested(item),
    )


def _tested(item: Predicted) -> str:
    if item.anchored is None:
        return UNANCHORED if item.described else NONE
    found = score(item.anchored.back_test(item.prediction.target.name))
    return "passes" if found.passes else "FAILS" if found.n else "none"


def _note(found: Sequence[Predicted]) -> str:
    stacks = {item.stack == GRAPH for item in found}
    notes = [*([_FROM_LEDGER] if False in stacks else []), *([_FROM_DESCRIPTION] if True in stacks else [])]
    notes.append("No transport and no simulation")
    if any(item.anchored for item in found):
        notes.append(_ANCHORED)
    bare = list(dict.fromkeys(item.name for item in found if item.described))
    if bare:
        notes.append(
            f"{', '.join(bare)}: {UNANCHORED}, so no known timing corrects these figures and none has tested them; "
            "with the device, `harness probe --policy arch:NAME`, then --measured"
        )
    for item in found:
        notes += [*item.prediction.target.notes]
        if item.anchored:
            notes += anchor_notes(item.anchored, item.prediction.target.name)
        elif item.stack != GRAPH:
            notes.append(f"{item.prediction.target.name}: {item.prediction.target.host.basis}")
    return " ".join(f"{note.rstrip('.')}." for note in dict.fromkeys(notes))


_FROM_LEDGER = (
    "From a ledger: device work at the target's rates and the efficiency measured on the source, kernels of "
    f"{KERNEL_US:g} µs at least, and the host's idle time; band: device work overlapped with the host or queued "
    f"after it, rates off by their profile's confidence and {MODEL_SPREAD:.0%} for carrying efficiency over, host "
    "faster or slower as assumed"
)
_FROM_DESCRIPTION = (
    "From a description: the roofline of the printed peaks, of which real stacks reach "
    f"{ROOFLINE_SHARE[0]:.0%} to {ROOFLINE_SHARE[2]:.0%} (arXiv:2602.18397), without launches"
)

_ANCHORED = (
    f"Then corrected by known points; band: {100 * BAND:.0f} %, of what stacks and devices differ by. `--anchor none` "
    "leaves them out, `--anchor PROFILE:nfe10=MS` adds one"
)
MAX_NAMED = 6
"""Anchors that a note names."""


def anchor_notes(anchored: Anchored, device: str) -> list[str]:
    """What a prediction for a device rests on, and how it did on that device when it was held out."""
    anchors, near = anchored.anchors.anchors, anchored.near(device)
    here = [anchor for anchor in near if anchor.place.device == device]
    named = [*here, *(anchor for anchor in near if anchor not in here)][:MAX_NAMED]
    return [
        f"{device}: anchored by {len(anchors)} points on {anchored.anchors.devices} devices, {len(here)} there: "
        f"{'; '.join(anchor.name for anchor in named)}" + ("; …" if len(anchors) > len(named) else ""),
        f"{device}: back-test {score(anchored.back_test(device)).text}",
    ]


UNANCHORED = "no anchor"
"""Of a description: no published or own timing corrects it, and none has tested it."""
GRAPH = "one graph"
"""Stack of a prediction from a description alone."""


def back_test_table(anchored: Anchored, found: Sequence[HeldOut]) -> Table:
    """Published figures and what was predicted for them with their device held out."""
    rows = tuple(
        (
            f"{item.published['device']}, {item.published['stack']}, {item.published['checkpoint_or_variant']}",
            str(item.published["source"]),
            item.reason,
            count(item.published["nfe"]),
            number(item.published["latency_ms"]),
            number(item.prediction.likely),
            number_interval(item.prediction.low, item.prediction.high),
            percent(round(item.error, 3)),
        )
        for item in found
    )
    columns = ("published", "source", "why", "NFE", "published ms", "predicted ms", "band", "error")
    devices = dict.fromkeys(str(item.published["profile"]) for item in found)
    each = (
        f"{device}: {score([item for item in found if item.published['profile'] == device]).text}."
        for device in devices
    )
    source = f"{anchored.source.name} on {text(anchored.source.configuration['hardware'])}"
    told = (f"Predicted from {source}, the device of each point held out.", f"All: {score(found).text}.", *each)
    return Table("Back-test on published figures", columns, rows, 3, BACK_TEST_NOTE, told)


BACK_TEST_NOTE = (
    "Each point is predicted from all others but those on its device, own ones too. It passes with 85 % inside the "
    "90 % band and a median error of 20 % or less. Which stacks are called eager, compiled or engine, and the prior of "
    "the effects, were chosen by people who had seen these points. Left out: points without a profile, or of a stack "
    "that is not stated. Dtype, cameras and host of published points are mostly not stated."
)


def published_table(frame: pd.DataFrame) -> Table:
    """Published decisions of the measured models, with the measured median where the same device was measured."""
    rows = tuple(
        (
            text(row["model"]),
            text(row["checkpoint_or_variant"]),
            text(row["device"]),
            text(row["stack"]),
            text(row["measured_on"]),
            _cite(row),
            count(row["nfe"]),
            number(row["latency_ms"]),
            number(row["measured"]),
            number(row["ratio"]),
        )
        for row in records(frame)
    )
    columns = ("model", "variant", "device", "stack", "measured as", "source", "NFE", "published ms", "measured ms")
    note = "Published figures are others'; compare only what has the same stack. ratio: measured over published."
    return Table("Published decisions", (*columns, "ratio"), rows, 6, note)


def _cite(row: dict[str, Any]) -> str:
    note = f" ({row['note']})" if known(row["note"]) else ""
    computed = " [computed]" if row["kind"] == "predicted" else ""
    return f"{row['source']}{computed}{note}"


def predictions_json(found: Sequence[Predicted]) -> list[dict[str, Any]]:
    """Predictions as flat objects with their parts; times in ms."""
    return [
        {
            "policy": item.name,
            "stack": item.stack,
            "device": item.prediction.target.name,
            "nfe": item.prediction.nfe,
            "low_ms": item.prediction.low,
            "likely_ms": item.prediction.likely,
            "high_ms": item.prediction.high,
            "waits_for": item.prediction.bound,
            "fits": item.prediction.fits,
            "memory_bytes": item.prediction.memory_bytes,
            "measured_ms": item.measured if item.measured is None or math.isfinite(item.measured) else None,
            "error": item.error,
            "parts": [part._asdict() for part in item.prediction.parts],
            "copy_gb_s": item.prediction.target.rates.copy_gb_s,
            "tflop_s": dict(item.prediction.target.rates.tflop_s),
            "host": item.prediction.target.host._asdict(),
            "notes": list(item.prediction.target.notes),
            "anchored": item.anchored is not None,
            "anchors": [anchor.name for anchor in item.anchored.anchors.anchors] if item.anchored else [],
            "back_test": score(item.anchored.back_test(item.prediction.target.name)).text if item.anchored else None,
        }
        for item in found
    ]


def back_test_json(anchored: Anchored, found: Sequence[HeldOut]) -> dict[str, Any]:
    """The back-test's score, and its rows as flat objects."""
    total = score(found)
    return {
        "from": dict(anchored.source.configuration),
        "passes": total.passes,
        "n": total.n,
        "inside": total.inside,
        "median_error": total.median_error,
        "points": [
            {
                "published": dict(item.published),
                "low_ms": item.prediction.low,
                "likely_ms": item.prediction.likely,
                "high_ms": item.prediction.high,
                "inside": item.inside,
                "error": item.error,
                "reason": item.reason,
            }
            for item in found
        ],
    }
