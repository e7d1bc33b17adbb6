"""The learning curve for people and for other tools: terminal, one HTML page, one Parquet table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import harness
from harness.ledger.storage import Location
from harness.report.format import NONE, count, known, number, number_interval, percent, percent_interval
from harness.report.html import page_template
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
    )


def curve_table(curve: Curve) -> Table:
    """The curve as a table of text."""
    return Table(
        title="Learning curve",
        columns=("checkpoint", "status", "step", "solved", "rate", "95 % interval", "alike", "errors", "decision ms",
                 "95 %", "e2e ms", "verdict"),
        rows=tuple(_row(point, curve) for point in curve.points),
        left=2,
        note=NOTE,
    )  # fmt: skip


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
        [("training" if lineage == 1 else f"restart {lineage - 1}", _triples(scored, lineage)) for lineage in lineages],
        name="curve",
        description=f"Success over training steps. {told}.",
    )


def _triples(points: Sequence[Point], lineage: int) -> list[tuple[int, float, float, float, bool]]:
    return [
        (point.step, point.rate or 0.0, point.low or 0.0, 1.0 if point.high is None else point.high,
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
