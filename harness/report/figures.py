"""Figures for papers: SVG, PNG and the CSV behind each, in colours that colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.latency.distribution import SHARES
from harness.analysis.summary import Summary
from harness.errors import UsageError
from harness.report.format import known, text
from harness.report.names import variant_names
from harness.report.tables.table import records

# Okabe and Ito, "Color Universal Design", 2008.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

Draw = Callable[[Any, pd.DataFrame], None]
"""Draws a frame on axes of matplotlib."""


def write_figures(summary: Summary, folder: str | Path) -> list[Path]:
    """Write every figure that the ledger has data for.

    Args:
        summary: Of the ledger.
        folder: Where NAME.svg, NAME.png and NAME.csv go.

    Returns:
        The files.

    Raises:
        UsageError: Nothing to draw, or the folder cannot be written.
    """
    found = [(name, frame, draw) for name, frame, draw in _figures(summary) if len(frame)]
    if not found:
        raise UsageError(f"{summary.ledger.path!r} has neither episodes nor latencies to draw. Name another ledger.")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        return [file for name, frame, draw in found for file in _write(Path(folder) / name, frame, draw)]
    except OSError as error:
        raise UsageError(f"Cannot write figures into {str(folder)!r}: {error}. Name another folder.") from error


def _figures(summary: Summary) -> Iterator[tuple[str, pd.DataFrame, Draw]]:
    yield "success", _success(summary), _draw_success
    yield "latency-ecdf", _ecdf(summary), _draw_ecdf


def _success(summary: Summary) -> pd.DataFrame:
    names = variant_names(summary)
    rows = [row for row in records(summary.success) if known(row["rate"])]
    kept = ("suite", "n", "successes", "rate", "low", "high")
    return pd.DataFrame([{"policy": names.of(row)} | {name: row[name] for name in kept} for row in rows])


def _draw_success(axes: Any, frame: pd.DataFrame) -> None:
    suites = list(dict.fromkeys(frame["suite"]))
    policies = list(dict.fromkeys(frame["policy"]))
    for place, suite in enumerate(suites):
        own = frame[frame["suite"] == suite]
        y = [policies.index(policy) + 0.6 * (place + 0.5) / len(suites) - 0.3 for policy in own["policy"]]
        spread = [100 * (own["rate"] - own["low"]), 100 * (own["high"] - own["rate"])]
        colour, marker = COLOURS[place % len(COLOURS)], "os^Dv"[place % 5]
        axes.errorbar(100 * own["rate"], y, xerr=spread, fmt=marker, capsize=3, color=colour, label=text(suite))
    axes.set_yticks(range(len(policies)), policies)
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel("success, % (95 % Clopper-Pearson)")
    if len(suites) > 1:
        axes.legend(frameon=False)


def _ecdf(summary: Summary) -> pd.DataFrame:
    whole = [found for found in summary.distributions if found.component == "e2e" and found.launch is None]
    return pd.DataFrame(
        [
            {"policy": text(found.configuration["policy_id"]), "hardware": text(found.configuration["hardware"])}
            | {"nfe": found.nfe, "n": found.n, "share": share, "latency_ms": value}
            for found in whole
            for share, value in zip(SHARES, found.quantiles, strict=True)
        ]
    )


def _draw_ecdf(axes: Any, frame: pd.DataFrame) -> None:
    curves = frame.groupby(["policy", "hardware", "nfe"], dropna=False, sort=False)
    for place, (key, own) in enumerate(curves):
        colour, style = COLOURS[place % len(COLOURS)], ("-", "--", ":", "-.")[place // len(COLOURS) % 4]
        policy, hardware, nfe = np.atleast_1d(np.asarray(key, dtype=object))
        label = f"{policy}, {hardware}" + (f", NFE {int(nfe)}" if known(nfe) else "")
        axes.step(own["latency_ms"], 100 * own["share"], where="post", color=colour, ls=style, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("end-to-end latency, ms")
    axes.set_ylabel("samples at or below, %")
    axes.legend(frameon=False, fontsize=7)


def _write(stem: Path, frame: pd.DataFrame, draw: Draw) -> list[Path]:
    import matplotlib
    from matplotlib.figure import Figure

    files = [stem.with_suffix(ending) for ending in (".svg", ".png", ".csv")]
    # Without a date and with fixed ids, the same ledger gives the same files.
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "font.size": 9}):
        figure = Figure(figsize=(6.3, 3.6), layout="constrained")
        axes: Any = figure.add_subplot()
        draw(axes, frame)
        axes.grid(alpha=0.3)
        figure.savefig(files[0], metadata={"Date": None})
        figure.savefig(files[1], dpi=200)
    frame.to_csv(files[2], index=False)
    return files
