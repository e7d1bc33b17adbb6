"""Nights over time: tables and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.intervals import rate_interval
from harness.analysis.series import Step
from harness.errors import UsageError
from harness.gate.baseline import Baseline
from harness.gate.nights import Night, Series
from harness.report.format import NONE, count, moment, number, percent, text
from harness.report.gate.tables import interval_text
from harness.report.over_time import CurvePoint, OverTime, marks_chart
from harness.report.tables.table import Table

FORMATS = ("svg", "png", "pdf")


def baseline_table(records: Sequence[Baseline]) -> Table:
    """Accepted baselines."""
    return Table(
        title="Baselines",
        columns=("Name", "Suites", "Protocol", "Hardware", "Policy", "NFE", "Ledger", "Checkpoint", "Accepted", "Note"),
        rows=tuple(
            (
                one.name,
                " + ".join(one.suites),
                one.protocol[:8],
                ", ".join(one.hardware) or NONE,
                text(one.policy_id),
                text(one.nfe),
                one.ledger,
                text(one.checkpoint),
                one.accepted_at,
                one.note or NONE,
            )
            for one in records
        ),
        left=10,
        note=(
            "A candidate is judged against the last baseline of its name, suites, protocol, hardware and NFE. "
            "Protocol: first digits of its digest; `harness compare` of two ledgers names what differs."
        ),
    )


def series_table(series: Series) -> Table:
    """One series, night by night, with its steps."""
    return Table(
        title=series.key.label,
        columns=("Night", "Ledger", "Success", "95 %", "Episodes", "Errors", "e2e ms", "Step"),
        rows=tuple(_night(place, night, series) for place, night in enumerate(series.nights)),
        left=2,
        note=(
            "Step: first night of a new level, surprising among the same nights in random order and among nights that "
            "are like their neighbours (some 2 % of unchanged series show one). "
            "Success: Clopper-Pearson."
        ),
    )


def nights_over_time(found: Sequence[Series]) -> list[OverTime]:
    """Sections of the page: each series with its steps as dashed lines."""
    return [_over_time(series, place) for place, series in enumerate(found)]


def _over_time(series: Series, place: int) -> OverTime:
    ticks = [_tick(night) for night in series.nights]
    scored = [(at, night, rate_interval(night.successes, night.n)) for at, night in enumerate(series.nights) if night.n]
    rates = [
        CurvePoint(at, 100 * night.successes / night.n, 100 * low, 100 * high) for at, night, (low, high) in scored
    ]
    told = {step.position - 0.5: _change(100 * step.before, 100 * step.after, "%") for step in series.success_steps}
    axes = ("night", "success, %")
    charts = [
        marks_chart(
            f"nights{place}", "Success night by night", {series.key.label: rates}, axes, steps=told, categories=ticks
        )
    ]
    timed = [CurvePoint(at, float(series.nights[at].latency_ms or 0)) for at in series.latency_nights]
    if timed:
        changed = {series.latency_nights[step.position] - 0.5: _latency_change(step) for step in series.latency_steps}
        axes = ("night", "end-to-end latency, ms")
        name, title = f"nights-latency{place}", "Median end-to-end latency night by night"
        charts.append(marks_chart(name, title, {series.key.label: timed}, axes, steps=changed, categories=ticks))
    changes = len(series.success_steps) + len(series.latency_steps)
    sentence = f"{count(len(series.nights))} nights, " + (
        f"{changes} change{'s' if changes > 1 else ''} of level (dashed)." if changes else "no change of level found."
    )
    return OverTime(f"Nights: {series.key.label}", sentence, tuple(charts), series_table(series))


def plot_series(found: Sequence[Series], path: Path) -> None:
    """Draw every series over time: success with intervals, latency below where there is any, steps as lines.

    Args:
        found: The series; at least one.
        path: File to write; its ending chooses the format.

    Raises:
        UsageError: Nothing to draw, or an ending that is no format.
    """
    if not found:
        raise UsageError("There are no nights to plot. Name a directory that holds ledgers with episodes.")
    if path.suffix.lstrip(".") not in FORMATS:
        raise UsageError(f"{path} does not end in a known format. Use one of {', '.join(FORMATS)}.")
    from matplotlib.figure import Figure

    panels = [
        (one, kind) for one in found for kind in ("success", "latency") if kind == "success" or one.latency_nights
    ]
    figure = Figure(figsize=(9, 2.6 * len(panels)), layout="constrained")
    for axes, (one, kind) in zip(np.ravel(figure.subplots(len(panels), squeeze=False)), panels, strict=True):
        (_draw_success if kind == "success" else _draw_latency)(axes, one)
        axes.set_title(one.key.label, fontsize=9, loc="left")
        axes.set_xticks(range(len(one.nights)), [_tick(night) for night in one.nights], rotation=45, fontsize=7)
        axes.set_xlim(-0.5, len(one.nights) - 0.5)
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_success(axes: Any, series: Series) -> None:
    scored = [(place, night) for place, night in enumerate(series.nights) if night.n]
    rates = [100 * night.successes / night.n for _, night in scored]
    bounds = [rate_interval(night.successes, night.n) for _, night in scored]
    spread = [
        [rate - 100 * low for rate, (low, _) in zip(rates, bounds, strict=True)],
        [100 * high - rate for rate, (_, high) in zip(rates, bounds, strict=True)],
    ]
    axes.errorbar([place for place, _ in scored], rates, yerr=spread, fmt="o", capsize=3, color="#1f5fa8")
    for step in series.success_steps:
        axes.axvline(step.position - 0.5, color="#b3261e", linestyle="--")
        axes.annotate(_change(100 * step.before, 100 * step.after, "%"), (step.position - 0.4, min(rates)), fontsize=8)
    axes.set_ylabel("success, %")


def _draw_latency(axes: Any, series: Series) -> None:
    places = list(series.latency_nights)
    axes.plot(places, [series.nights[place].latency_ms for place in places], "o-", color="#1f5fa8")
    for step in series.latency_steps:
        axes.axvline(places[step.position] - 0.5, color="#b3261e", linestyle="--")
    axes.set_ylabel("e2e median, ms")


def _night(place: int, night: Night, series: Series) -> tuple[str, ...]:
    steps = [_percent_step(step) for step in series.success_steps if step.position == place]
    steps += [_ratio_step(step) for step in series.latency_steps if series.latency_nights[step.position] == place]
    return (
        moment(night.started) if night.started else NONE,
        night.path,
        percent(night.successes / night.n) if night.n else NONE,
        interval_text(rate_interval(night.successes, night.n)) if night.n else NONE,
        count(night.n),
        count(night.errors),
        number(night.latency_ms),
        "; ".join(steps),
    )


def _percent_step(step: Step) -> str:
    return f"success {_change(100 * step.before, 100 * step.after, '%')} (p = {step.p:.2g})"


def _ratio_step(step: Step) -> str:
    return f"latency {_latency_change(step)} (p = {step.p:.2g})"


def _latency_change(step: Step) -> str:
    return _change(float(np.exp(step.before)), float(np.exp(step.after)), "ms")


def _change(before: float, after: float, unit: str) -> str:
    return f"{number(before)} → {number(after)} {unit}"


def _tick(night: Night) -> str:
    return f"{night.started:%m-%d}" if night.started else Path(night.path).name[:10]
