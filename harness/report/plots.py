"""Plots as inline SVG that takes its colours from the page, so that it follows light, dark and print."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

# matplotlib knows no CSS variables: it draws in these stand-ins, which are replaced in its output.
_INK, _MUTED, _GRID = "#010101", "#020202", "#030303"
_SERIES = ("#040401", "#040402", "#040403", "#040404", "#040405", "#040406")
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--line)",
    **{colour: f"var(--s{place})" for place, colour in enumerate(_SERIES, 1)},
}
_MARKERS = ("o", "s", "^", "D", "v", "P")


def success_curve(
    lineages: Sequence[tuple[str, Sequence[tuple[float, float, float, float, bool]]]],
    *,
    name: str,
    description: str,
    against: str = "training step",
) -> str:
    """Draw success over the training step or its cost, with intervals; what is in part done is hollow.

    Args:
        lineages: Per lineage of a training run: its name, and (step, rate, low, high, complete) of each checkpoint.
        name: Unique in the page.
        description: What the picture shows, for those who do not see it.
        against: What the first number of a checkpoint is, if not its step.

    Returns:
        An `<svg>` element.
    """

    def draw(axes: Any) -> None:
        for place, (label, points) in enumerate(lineages):
            for complete in (True, False):
                chosen = [point for point in points if point[4] is complete]
                steps, rates = _columns(chosen)
                spread = [
                    [100 * (rate - low) for _, rate, low, _, _ in chosen],
                    [100 * (high - rate) for _, rate, _, high, _ in chosen],
                ]
                style = {"label": label} if complete else {"mfc": "none"}
                colour = _draw_points(axes, steps, rates, spread, place, **style)
            axes.plot(*_columns([point for point in points if point[4]]), color=colour, lw=1.2, zorder=2)
        axes.set_ylim(-3, 103)
        axes.set_xlabel(against, color=_MUTED)
        axes.set_ylabel("success, %", color=_MUTED)

    return _svg(draw, name, description, legend="lower right" if len(lineages) > 1 else None)


def delay_curve(
    curves: Sequence[tuple[str, Sequence[tuple[float, float, float, float]]]], *, name: str, description: str
) -> str:
    """Draw success over the delay of decisions, each clock with a band.

    Args:
        curves: Per policy and clock: its name, and (delay in control steps, rate, low, high) of each source of delays.
        name: Unique in the page.
        description: What the picture shows, for those who do not see it.

    Returns:
        An `<svg>` element.
    """

    def draw(axes: Any) -> None:
        for place, (label, points) in enumerate(curves):
            steps, rates = [point[0] for point in points], [100 * point[1] for point in points]
            colour, marker = _SERIES[place % len(_SERIES)], _MARKERS[place % len(_MARKERS)]
            low, high = [100 * point[2] for point in points], [100 * point[3] for point in points]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
            axes.plot(steps, rates, color=colour, marker=marker, ms=6, lw=1.3, label=label, zorder=3)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("delay of a decision, control steps (median)", color=_MUTED)
        axes.set_ylabel("success, %", color=_MUTED)

    return _svg(draw, name, description, legend="lower left")


def drop_bars(
    bars: Mapping[str, Mapping[str, tuple[float, float | None, float | None]]], *, name: str, description: str
) -> str:
    """Draw changes of a rate as bars from zero, grouped by what caused them.

    Args:
        bars: Per policy: cause → (change, low, high), each from -1 to 1; bounds None where there are none.
        name: Unique in the page.
        description: What the picture shows, for those who do not see it.

    Returns:
        An `<svg>` element.
    """
    causes = list(dict.fromkeys(cause for own in bars.values() for cause in own))
    width = 0.8 / len(bars)

    def draw(axes: Any) -> None:
        for place, (policy, own) in enumerate(bars.items()):
            colour = _SERIES[place % len(_SERIES)]
            x = [causes.index(cause) + width * (place + 0.5) - 0.4 for cause in own]
            axes.bar(x, [100 * bar[0] for bar in own.values()], 0.9 * width, color=colour, alpha=0.75, label=policy)
            for at, (change, low, high) in zip(x, own.values(), strict=True):
                if low is not None and high is not None:
                    spread = [[100 * (change - low)], [100 * (high - change)]]
                    axes.errorbar([at], [100 * change], yerr=spread, fmt="none", ecolor=_INK, capsize=3, lw=1)
        axes.axhline(0, color=_MUTED, lw=0.8)
        axes.set_xticks(range(len(causes)), causes)
        axes.set_ylabel("change of success, points", color=_MUTED)

    return _svg(draw, name, description, legend="lower left" if len(bars) > 1 else None)


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[tuple[float | None, str]]],
    *,
    name: str,
    description: str,
) -> str:
    """Draw a table of rates as colours, each with its text.

    Args:
        rows: Names from top to bottom.
        columns: Names from left to right.
        cells: Per row and column (rate from 0 to 1 or None, text).
        name: Unique in the page.
        description: What the picture shows, for those who do not see it.

    Returns:
        An `<svg>` element.
    """

    def draw(axes: Any) -> None:
        for y, line in enumerate(cells):
            for x, (rate, told) in enumerate(line):
                shade = {"color": _SERIES[0], "alpha": 0.08 + 0.7 * rate} if rate is not None else {"color": _GRID}
                axes.barh(y, 0.96, left=x - 0.48, height=0.92, **shade)
                axes.text(x, y, told, ha="center", va="center", color=_INK, fontsize=9)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)

    return _svg(draw, name, description, legend=None)


def timeline_bars(
    flights: Sequence[tuple[int, int]], executed: Sequence[str], control_hz: float, *, name: str, description: str
) -> str:
    """Draw one episode: its decisions in flight, and what was executed in each control step.

    Args:
        flights: Per decision: control step of its observation, and steps until its answer was in hand.
        executed: Per control step: "new", "old" or "hold".
        control_hz: Control rate, for the axis in seconds.
        name: Unique in the page; prefixes every id in the SVG.
        description: What the picture shows, for those who do not see it.

    Returns:
        An `<svg>` element.
    """
    looks = {
        "new": ("action of the latest chunk", _SERIES[0], 0.85),
        "old": ("stale: of the chunk before", _SERIES[1], 0.85),
        "hold": ("hold", _MUTED, 0.45),
    }
    ends = [0, *(i for i in range(1, len(executed)) if executed[i] != executed[i - 1]), len(executed)]

    def draw(axes: Any) -> None:
        for k, (start, steps) in enumerate(flights):
            # Alternately up and down, so that decisions that follow one another are told apart.
            axes.broken_barh([(start, max(steps, 0.15))], (1.05 + 0.24 * (k % 2), 0.2), color=_SERIES[2])
        for which, (label, colour, alpha) in looks.items():
            bars = [(a, b - a) for a, b in pairwise(ends) if executed[a] == which]
            axes.broken_barh(bars, (0.1, 0.6), color=colour, alpha=alpha, label=label)
        axes.set_yticks([0.4, 1.27], ["executed", "in flight"])
        axes.set_ylim(0, 2.15)
        axes.set_xlim(0, max(len(executed), *(start + steps for start, steps in flights)) + 0.5)
        axes.set_xlabel(f"control steps ({control_hz:g} a second)", color=_MUTED)

    return _svg(draw, name, description, legend="upper right")


def _draw_points(
    axes: Any, x: Sequence[float], y: list[float], spread: list[list[float]], place: int, **style: Any
) -> str:
    """Draw points with whiskers in the look of a series; returns its colour."""
    colour, marker = _SERIES[place % len(_SERIES)], _MARKERS[place % len(_MARKERS)]
    look = {"color": colour, "capsize": 4, "ms": 6, "lw": 1.3, "zorder": 3}
    axes.errorbar(x, y, yerr=spread, fmt=marker, **{**look, **style})
    return colour


def _columns(points: Sequence[tuple[float, float, float, float, bool]]) -> tuple[list[float], list[float]]:
    return [point[0] for point in points], [100 * point[1] for point in points]


def _svg(draw: Callable[[Any], None], name: str, description: str, *, legend: str | None) -> str:
    """Draw on axes of one look, and write them for a page."""
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10, "font.family": "sans-serif"}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8.6, 3.5), layout="constrained")
        figure.patch.set_alpha(0)
        axes: Any = figure.add_subplot()
        draw(axes)
        axes.patch.set_alpha(0)
        axes.grid(axis="y", color=_GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=_MUTED, length=3)
        for side, spine in axes.spines.items():
            spine.set_color(_GRID)
            spine.set_visible(side in ("left", "bottom"))
        if legend is not None:
            axes.legend(frameon=False, labelcolor=_INK, loc=legend)
        return _inline(figure, name, description)


def _inline(figure: Any, name: str, description: str) -> str:
    buffer = io.StringIO()
    # Without metadata there is neither a date (reports are reproducible) nor an RDF block with addresses in it.
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(["Creator", "Date", "Format", "Type"]))
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    # The page sets the font; matplotlib's own names a font that the reader may lack.
    svg = re.sub(r"font: ([0-9.]+)px [^;\"]+", r"font-size: \1px", svg)
    width, height = _size(svg)
    head = (
        f'<svg class="plot" role="img" aria-labelledby="{name}-title" viewBox="0 0 {width} {height}" '
        f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{_xml(description)}</title>'
    )
    return head + svg[svg.index(">") + 1 :]


def _size(svg: str) -> tuple[str, str]:
    match = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    if match is None:
        raise AssertionError("matplotlib wrote an SVG without a viewBox")
    return match.group(1), match.group(2)


def _xml(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
