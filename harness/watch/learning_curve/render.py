"""The learning curve for people and for other tools: terminal, one HTML page, one Parquet table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

import harness
from harness.ledger.storage import Location
from harness.report.format import NONE, count, known, number, number_interval, percent, percent_interval
from harness.report.html import page_template
from harness.report.over_time import CurvePoint, OverTime, marks_chart
from harness.report.plots import success_curve
from harness.report.tables.table import Table
from harness.watch.backlog.journal import FOLDER, CheckpointStatus
from harness.watch.learning_curve.curve import Curve, Point

PAGE, TABLE = f"{FOLDER}/learning_curve.html", f"{FOLDER}/learning_curve.parquet"
"""Where they lie inside the ledger."""

NOTE = (
    "Success: Clopper-Pearson, each checkpoint alone. Checkpoints that share a letter cannot be told apart (exact "
    "McNemar on shared episodes, Holm over all pairs). Decision: median of queue and inference in closed loop; its "
    "interval takes decisions as independent."
)

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("step", pa.int64()),
        ("lineage", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("successes", pa.int64()),
        ("n", pa.int64()),
        ("errors", pa.int64()),
        ("rate", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("decision_ms", pa.float64()),
        ("decision_low_ms", pa.float64()),
        ("decision_high_ms", pa.float64()),
        ("e2e_ms", pa.float64()),
        ("verdict", pa.string()),
        ("letters", pa.string()),
        ("best", pa.bool_()),
        ("gpu_hours", pa.float64()),
        ("price", pa.float64()),
        ("flags", pa.string()),
    ]
)


def best_sentence(curve: Curve) -> str:
    """The best checkpoint in a sentence, with what it cannot be told from."""
    if curve.best is None:
        return "No checkpoint has been evaluated to its end yet."
    best = curve.best
    alike = ", ".join(best.alike[:8]) + (f" and {len(best.alike) - 8} more" if len(best.alike) > 8 else "")
    n = sum(point.status == CheckpointStatus.EVALUATED and point.n > 0 for point in curve.points)
    return (
        f"Best: {best.point.name} with {percent(best.point.rate)} of {best.point.n} episodes "
        f"[{percent_interval(*best.interval)}, as the best of {n}]"
        + (f"; it cannot be told from {alike}." if alike else "; it differs from every other." if n > 1 else ".")
        + _cheapest_sentence(curve)
    )


def _cheapest_sentence(curve: Curve) -> str:
    found = curve.cheapest
    if found is None or curve.best is None or not curve.best.alike:
        return ""
    hours = f"{number(found.gpu_hours)} GPU-hours" if found.gpu_hours is not None else ""
    price = f"{found.price:,.2f} of cost" if found.price is not None else ""
    return f" The cheapest of these is {found.name}, after {' and '.join(part for part in (hours, price) if part)}."


def curve_table(curve: Curve) -> Table:
    """The curve as a table of text."""
    more = [column for column in _TRAINING if any(column.known(point) for point in curve.points)]
    return Table(
        title="Learning curve",
        columns=("checkpoint", "status", "step", "solved", "rate", "95 % interval", "alike", "errors", "decision ms",
                 "95 %", "e2e ms", "verdict", *(column.title for column in more)),
        rows=tuple((*_row(point, curve), *(column.shown(point) for column in more)) for point in curve.points),
        left=2,
        note=NOTE,
    )  # fmt: skip


class _Column(NamedTuple):
    """A column that is shown where any checkpoint has something to say in it."""

    title: str
    known: Callable[[Point], bool]
    shown: Callable[[Point], str]


_TRAINING = (
    _Column("GPU-hours", lambda point: point.gpu_hours is not None, lambda point: number(point.gpu_hours)),
    _Column("price", lambda point: point.price is not None, lambda point: number(point.price)),
    _Column("training", lambda point: bool(point.flags), lambda point: point.flags),
)


def curve_over_time(curve: Curve) -> OverTime:
    """The curve as a section of a report's page."""
    scored = [point for point in curve.points if point.n]
    by_step = _marks(scored, "step")
    charts = [marks_chart("learning-curve", "Success over training steps", by_step, ("training step", "success, %"))]
    paid = [point for point in scored if point.gpu_hours is not None]
    if len(paid) > 1:
        title, axes = "Success over the cost of training", ("training, GPU-hours", "success, %")
        charts.append(marks_chart("training-cost", title, _marks(paid, "gpu_hours"), axes))
    return OverTime("Learning curve", best_sentence(curve), tuple(charts if scored else ()), curve_table(curve))


def _marks(points: Sequence[Point], against: str) -> dict[str, list[CurvePoint]]:
    return {
        _lineage_name(lineage): [
            CurvePoint(x, 100 * rate, 100 * low, 100 * high, whole)
            for x, rate, low, high, whole in _triples(points, lineage, against)
        ]
        for lineage in sorted({point.lineage for point in points})
    }


def _lineage_name(lineage: int) -> str:
    return "training" if lineage == 1 else f"restart {lineage - 1}"


def write_parquet(curve: Curve, ledger: str) -> str:
    """Write the curve as a table beside the ledger's; returns its path.

    Raises:
        LedgerError: It cannot be written.
    """
    best = curve.best.point.name if curve.best else None
    rows = [{**asdict(point), "rate": point.rate, "best": point.name == best} for point in curve.points]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink)
    return Location.of(ledger).write_file(TABLE, sink.getvalue())


def write_page(curve: Curve, ledger: str, command: str) -> str:
    """Write the curve as one self-contained HTML page; returns its path.

    Raises:
        LedgerError: It cannot be written.
    """
    return Location.of(ledger).write_file(PAGE, render_page(curve, ledger, command))


def render_page(curve: Curve, ledger: str, command: str) -> str:
    """Render the page; everything that comes from the ledger is escaped."""
    return page_template("learning_curve.html.j2", Path(__file__).parent / "templates").render(
        title=Path(ledger.rstrip("/")).name or ledger,
        ledger=ledger,
        lead=best_sentence(curve),
        plot=_plot(curve),
        cost_plot=_cost_plot(curve),
        table=curve_table(curve),
        left_out=[point for point in curve.points if point.reason and point.status != CheckpointStatus.EVALUATED],
        command=command,
        version=harness.__version__,
    )


def _plot(curve: Curve) -> str:
    scored = [point for point in curve.points if point.n]
    if not scored:
        return ""
    lineages = sorted({point.lineage for point in scored})
    told = "; ".join(f"step {point.step}: {percent(point.rate)}" for point in scored)
    return success_curve(
        [(_lineage_name(lineage), _triples(scored, lineage)) for lineage in lineages],
        name="curve",
        description=f"Success over training steps. {told}.",
    )


def _cost_plot(curve: Curve) -> str:
    """Success against what training took; empty where no checkpoint tells, or where only one does."""
    scored = [point for point in curve.points if point.n and point.gpu_hours is not None]
    if len(scored) < 2:
        return ""
    told = "; ".join(f"{number(point.gpu_hours)} GPU-hours: {percent(point.rate)}" for point in scored)
    series = [
        (_lineage_name(lineage), _triples(scored, lineage, "gpu_hours"))
        for lineage in sorted({point.lineage for point in scored})
    ]
    description = f"Success over the cost of training. {told}."
    return success_curve(series, name="cost", description=description, against="training, GPU-hours")


def _triples(
    points: Sequence[Point], lineage: int, against: str = "step"
) -> list[tuple[float, float, float, float, bool]]:
    return [
        (getattr(point, against), point.rate or 0.0, point.low or 0.0, 1.0 if point.high is None else point.high,
         point.status == CheckpointStatus.EVALUATED)
        for point in points
        if point.lineage == lineage
    ]  # fmt: skip


def _row(point: Point, curve: Curve) -> tuple[str, ...]:
    best = curve.best is not None and point.name == curve.best.point.name
    alike = curve.best is not None and (best or point.name in curve.best.alike)
    partial = point.status != CheckpointStatus.EVALUATED and point.n > 0
    return (
        point.name + (" (best)" if best else ""),
        point.status + (", in part" if partial else ""),
        count(point.step),
        f"{count(point.successes)}/{count(point.n)}" if point.n else NONE,
        percent(point.rate),
        percent_interval(point.low, point.high),
        point.letters or ("≈ best" if alike and not best else ""),
        count(point.errors),
        number(point.decision_ms),
        number_interval(point.decision_low_ms, point.decision_high_ms) if known(point.decision_low_ms) else NONE,
        number(point.e2e_ms),
        point.verdict,
    )
