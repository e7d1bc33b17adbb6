"""What moves over time on the page: the learning curve of a training, nights after nights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.report.charts import Chart, rounded
from harness.report.tables.table import Table


@dataclass(frozen=True)
class OverTime:
    """One subject over time: a section of the page."""

    title: str
    sentence: str
    charts: tuple[Chart, ...]
    table: Table


class CurvePoint(NamedTuple):
    """One point in time."""

    x: Any
    """Where it stands on the axis: a number or a name."""
    value: float
    low: float | None = None
    high: float | None = None
    """Ends of its interval."""
    whole: bool = True
    """Whether it was measured to its end; else it is drawn hollow."""


def marks_chart(
    name: str,
    title: str,
    lines: Mapping[str, Sequence[CurvePoint]],
    axes: tuple[str, str],
    *,
    steps: Mapping[float, str] | None = None,
    categories: Sequence[str] = (),
) -> Chart:
    """Points with whiskers, joined; dashed lines where the level changed.

    Args:
        name: Unique in the page.
        title: What is shown.
        lines: Label → its points in their order.
        axes: Titles of both axes.
        steps: Where on the axis a level changed → in words.
        categories: Names at 0, 1, … of the axis; empty where x is a number.
    """
    steps = steps or {}
    told = "; ".join(
        f"{label}: " + ", ".join(f"{mark.x if not categories else categories[mark.x]} {mark.value:.3g}" for mark in own)
        for label, own in lines.items()
    )
    changes = "".join(f" Level changed: {text}." for text in steps.values())
    ticks = {"tickvals": list(range(len(categories))), "ticktext": list(categories)} if categories else {}
    line = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"dash": "dash", "width": 2}}
    note = {"y": 1, "yref": "paper", "showarrow": False, "xanchor": "left", "yanchor": "top"}
    return Chart(
        name,
        title,
        f"{title}. {told}.{changes}",
        [_trace(label, own, place) for place, (label, own) in enumerate(lines.items())],
        {
            "xaxis": {"title": {"text": axes[0]}, **ticks},
            "yaxis": {"title": {"text": axes[1]}},
            "shapes": [line | {"x0": at, "x1": at} for at in steps],
            "annotations": [note | {"x": at, "text": text} for at, text in steps.items()],
        },
    )


def _trace(label: str, marks: Sequence[CurvePoint], place: int) -> dict[str, Any]:
    bounded = any(mark.low is not None for mark in marks)
    ends = {
        "array": rounded((mark.value if mark.high is None else mark.high) - mark.value for mark in marks),
        "arrayminus": rounded(mark.value - (mark.value if mark.low is None else mark.low) for mark in marks),
    }
    return {
        "name": label,
        "x": [mark.x for mark in marks],
        "y": rounded(mark.value for mark in marks),
        "mode": "lines+markers",
        "marker": {"size": 8, "symbol": ["circle" if mark.whole else "circle-open" for mark in marks]},
        "meta": {"colour": place},
    } | ({"error_y": {"type": "data", "symmetric": False, **ends}} if bounded else {})
