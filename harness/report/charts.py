"""Charts of the page, as figures of plotly.js: data of `analysis`, without colours, which are the page's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.latency.distribution import SHARES, TELEMETRY, Distribution, LaunchSamples
from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.latency.roofline import BOUNDS
from harness.analysis.summary import Summary
from harness.analysis.timing import BUSY, busy_lines
from harness.report.format import known, number, percent, text
from harness.report.names import identity_of
from harness.report.tables.table import records

MAX_BUSY = 12
"""Charts of who was busy over time."""

NAMES = {"sm_clock_mhz": "core clock, MHz", "temperature_c": "temperature, °C", "power_w": "power, W"}

_Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A figure of plotly.js with its words."""

    name: str
    """Unique in the page."""
    title: str
    told: str
    """What it shows, for those who do not see it."""
    traces: Sequence[_Trace]
    layout: Mapping[str, Any]

    @property
    def figure(self) -> dict[str, Any]:
        """What plotly.js is given."""
        return {"data": list(self.traces), "layout": dict(self.layout)}


def rounded(values: Iterable[Any], digits: int = 4) -> list[float | None]:
    """Numbers to so many significant digits, for a small page; what is missing or infinite is null."""
    found = (float(value) if known(value) else math.nan for value in values)
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in found]


def latency_charts(summary: Summary, key: tuple[Any, ...], place: int) -> list[Chart]:
    """Charts of one policy's latency, all of its devices together.

    Args:
        summary: Of the ledger.
        key: Values of `CONFIGURATION` without the hardware.
        place: Number of the group in the page.
    """
    curves = [found for found in summary.distributions if _group(found.configuration) == key]
    samples = [found for found in summary.samples if _group(found.configuration) == key]
    fits = {identity_of(row): row for row in records(summary.prefix)}
    rows = [row for row in records(summary.latency) if _group(row) == key and row["component"] == "e2e"]
    charts = [
        _over_nfe([row for row in rows if known(row["nfe"])], fits, place),
        _ecdf([found for found in curves if found.component == "e2e"], place, "whole decisions", "e2e"),
        _ecdf([found for found in curves if found.component != "e2e"], place, "components", "parts"),
        _over_time(samples, place),
        _floors([row for row in records(summary.roofline) if _group(row) == key], place),
    ]
    return [chart for chart in charts if chart is not None]


def _group(configuration: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(configuration[name]) for name in CONFIGURATION if name != "hardware")


def _over_nfe(
    rows: Sequence[Mapping[str, Any]], fits: Mapping[tuple[Any, ...], Mapping[str, Any]], place: int
) -> Chart | None:
    if len({row["nfe"] for row in rows}) < 2:
        return None
    traces: list[_Trace] = []
    told = []
    for at, hardware in enumerate(dict.fromkeys(text(row["hardware"]) for row in rows)):
        own = [row for row in rows if text(row["hardware"]) == hardware]
        above = [float(row["p99"]) - float(row["median"]) for row in own]
        traces.append(
            {
                "name": hardware,
                "x": [int(row["nfe"]) for row in own],
                "y": rounded(row["median"] for row in own),
                "error_y": {"type": "data", "symmetric": False, "array": rounded(above), "arrayminus": [0] * len(own)},
                "mode": "markers",
                "meta": {"colour": at},
            }
        )
        told.append(f"{hardware}: " + ", ".join(f"{number(row['median'])} ms at NFE {int(row['nfe'])}" for row in own))
        fit = fits.get(identity_of(own[0]))
        if fit is not None and known(fit["step"]):
            ends = [0, max(int(row["nfe"]) for row in own)]
            line = {"x": ends, "y": rounded(fit["prefix"] + fit["step"] * x for x in ends), "mode": "lines"}
            traces.append(line | {"name": f"{hardware}: line", "line": {"dash": "dash"}, "meta": {"colour": at}})
    return Chart(
        f"nfe{place}",
        "End-to-end latency over NFE: median, whisker to p99; dashed: the line through the medians",
        f"Median end-to-end latency over NFE. {'; '.join(told)}.",
        traces,
        {"xaxis": _axis("NFE (denoise steps per decision)", 0), "yaxis": _axis("end-to-end latency, ms", 0)},
    )


def _axis(title: str, low: float | None = None, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}} | ({"rangemode": "tozero"} if low == 0 else {}) | more


def _ecdf(curves: Sequence[Distribution], place: int, what: str, name: str) -> Chart | None:
    """Empirical distribution functions: the legend switches single curves on and off."""
    if not curves:
        return None
    traces: list[_Trace] = []
    colours: dict[tuple[Any, ...], int] = {}
    last = max((found.nfe or 0 for found in curves), default=0)
    for found in curves:
        group = (found.configuration["hardware"], found.nfe, found.component)
        label = _curve_name(found)
        traces.append(
            {
                "name": label if found.launch is None else f"{label}, launch {found.launch}",
                "x": rounded(found.quantiles),
                "y0": 0,
                "dy": 100 / (len(SHARES) - 1),
                "mode": "lines",
                "line": {"shape": "hv", "width": 2.4 if found.launch is None else 1},
                "opacity": 1 if found.launch is None else 0.55,
                "meta": {"colour": colours.setdefault(group, len(colours))},
            }
            # Components: those of the most steps at first, the others at a touch of the legend.
            | ({"visible": "legendonly"} if name == "parts" and (found.nfe or 0) != last else {})
        )
    whole = [found for found in curves if found.launch is None]
    medians = "; ".join(f"{_curve_name(found)} {number(found.quantiles[len(SHARES) // 2])} ms" for found in whole)
    return Chart(
        f"ecdf-{name}{place}",
        f"Distribution of {what}: share of samples below a latency"
        + (", thin lines single launches" if len(whole) < len(curves) else ""),
        f"Empirical distribution of {what}. Medians: {medians}.",
        traces,
        {"xaxis": _axis("ms", type="log"), "yaxis": _axis("samples at or below, %", range=[0, 101])},
    )


def _curve_name(found: Distribution) -> str:
    parts = [text(found.configuration["hardware"]), f"NFE {found.nfe}" if found.nfe is not None else ""]
    return ", ".join(filter(None, [*parts, found.component.replace("_", " ") if found.component != "e2e" else ""]))


def _over_time(samples: Sequence[LaunchSamples], place: int) -> Chart | None:
    if not samples:
        return None
    traces: list[_Trace] = []
    for at, found in enumerate(samples):
        label = f"{text(found.configuration['hardware'])}, NFE {found.nfe}, launch {found.launch}"
        x = rounded(found.seconds, 6)
        traces.append(
            {"name": label, "x": x, "y": rounded(found.latency_ms), "mode": "markers", "meta": {"colour": at}}
            | {"marker": {"size": 4}}
        )
        traces += [
            {"name": f"{NAMES[name]}: {label}", "x": x, "y": rounded(values), "mode": "lines", "yaxis": "y2"}
            | {"visible": "legendonly", "meta": {"colour": at + 1 + TELEMETRY.index(name)}}
            for name, values in found.telemetry.items()
        ]
    timed = all(found.timed for found in samples)
    beside = any(found.telemetry for found in samples)
    return Chart(
        f"time{place}",
        "Whole decisions over time, launch by launch"
        + ("; clock, temperature and power at a touch of the legend" if beside else ""),
        f"End-to-end latency over time in {len(samples)} launches and NFE values, "
        f"{sum(len(found.latency_ms) for found in samples)} samples.",
        traces,
        {
            "xaxis": _axis("seconds since the first sample" if timed else "sample"),
            "yaxis": _axis("end-to-end latency, ms", 0),
        }
        | ({"yaxis2": _axis("MHz, °C or W", overlaying="y", side="right", showgrid=False)} if beside else {}),
    )


def _floors(rows: Sequence[Mapping[str, Any]], place: int) -> Chart | None:
    """Measured time of each component beside its floors."""
    judged = [row for row in rows if any(known(row[bound]) for bound in BOUNDS)]
    if not judged:
        return None
    names = [
        f"{text(row['hardware'])} · NFE {int(row['nfe']) if known(row['nfe']) else '–'} · "
        f"{str(row['component']).replace('_', ' ')}: {text(row['verdict'])}"
        for row in judged
    ]
    traces: list[_Trace] = [
        {"type": "bar", "orientation": "h", "name": "measured", "y": names, "x": rounded(row["wall"] for row in judged)}
    ]
    traces += [
        {"name": f"{bound} floor", "mode": "markers", "y": names, "x": rounded(row[bound] for row in judged)}
        | {"marker": {"size": 10, "symbol": symbol}}
        for bound, symbol in zip(BOUNDS, ("diamond", "square", "triangle-up"), strict=False)
    ]
    return Chart(
        f"floors{place}",
        "What limits each component: measured time a call against its floors",
        "Measured time and floors: " + "; ".join(names) + ".",
        [trace | {"meta": {"colour": at}} for at, trace in enumerate(traces)],
        {
            "xaxis": _axis("ms a call", 0),
            "yaxis": {"automargin": True, "autorange": "reversed"},
            "height": 140 + 24 * len(names),
        },
    )


def busy_charts(summary: Summary) -> list[Chart]:
    """Per run and node: who was busy over its time; the first `MAX_BUSY`."""
    charts = []
    for place, ((run_id, node_id), line) in enumerate(list(busy_lines(summary.ledger.usage).items())[:MAX_BUSY]):
        there = [name for name in BUSY if line[name].notna().any()]
        means = ", ".join(f"{_busy_name(name)} {percent(line[name].mean())}" for name in there)
        charts.append(
            Chart(
                f"busy{place}",
                f"{run_id}, {node_id}: share of workers with work, of time in which policy servers computed, and of "
                "time in which their GPUs ran a kernel",
                f"Who was busy over time in {run_id} on {node_id}. Means: {means}.",
                [
                    {"name": _busy_name(name), "mode": "lines", "x": rounded(line["minutes"])}
                    | {"y": rounded(100 * line[name]), "meta": {"colour": at}}
                    for at, name in enumerate(there)
                ],
                {
                    "xaxis": _axis("minutes since the first sample", 0),
                    "yaxis": _axis("busy, %", range=[0, 104]),
                },
            )
        )
    return charts


def _busy_name(column: str) -> str:
    return column.replace("_", " ").replace("gpu", "GPU")


def phase_chart(summary: Summary) -> Chart | None:
    """Where each run's time went, phase by phase."""
    rows = records(summary.phases)
    if not rows:
        return None
    phases = [name for name in rows[0] if name not in ("run_id", "total_s") and any(row[name] > 0 for row in rows)]
    told = "; ".join(
        f"{row['run_id']}: " + ", ".join(f"{name} {number(row[name])} s" for name in phases) for row in rows
    )
    return Chart(
        "phases",
        "Where each run's time went",
        f"Seconds of each phase. {told}.",
        [
            {"type": "bar", "orientation": "h", "name": name, "y": [str(row["run_id"]) for row in rows]}
            | {"x": rounded(row[name] for row in rows), "meta": {"colour": at}}
            for at, name in enumerate(phases)
        ],
        {
            "barmode": "stack",
            "xaxis": _axis("seconds", 0),
            "yaxis": {"automargin": True, "type": "category"},
            "height": 150 + 34 * len(rows),
        },
    )
