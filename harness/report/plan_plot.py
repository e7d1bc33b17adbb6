"""Time against cost, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.planning.mixes import Mix


def draw_front(found: Sequence[Mix], front: Sequence[Mix], deadline_s: float, target: str) -> None:
    """Draw every mix, the Pareto front among them, and the deadline.

    Raises:
        UsageError: The file cannot be written, or its ending names no format.
    """
    from matplotlib.figure import Figure

    chart = Figure(figsize=(7, 4.2), layout="constrained")
    axes = chart.subplots()
    axes.plot([mix.forecast.finish_s / 60 for mix in found], [mix.cost for mix in found], "o", color="0.75", ms=4)
    times = [mix.forecast.finish_s / 60 for mix in front]
    axes.plot(times, [mix.cost for mix in front], "o-", color="C0", label="no other beats it in both")
    for mix, x in zip(front, times, strict=True):
        axes.hlines(mix.cost, mix.forecast.low_s / 60, mix.forecast.high_s / 60, color="C0", alpha=0.4)
        axes.annotate(mix.name, (x, mix.cost), textcoords="offset points", xytext=(5, 5), fontsize=7)
    if deadline_s / 60 <= 3 * max(times):
        axes.axvline(deadline_s / 60, color="C3", ls="--", label="deadline")
    axes.set(xlabel="time, minutes (line: 90 % band)", ylabel="cost", ylim=(0, None), xlim=(0, None))
    axes.legend(frameon=False)
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        chart.savefig(target, dpi=130)
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot draw {target}: {error}. Name a PNG, PDF or SVG file.") from error
