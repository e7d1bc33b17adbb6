"""How many robots a server feeds, as a sentence and a table."""

from __future__ import annotations

from harness.planning.robots import Capacity, Objective, ServiceTimes
from harness.report.format import percent
from harness.report.tables.table import Table


def capacity_sentence(found: Capacity, times: ServiceTimes, hz: float, objective: Objective) -> str:
    """The answer."""
    fed = (
        f"feeds {found.robots} robots" if found.robots > 1 else "feeds one robot" if found.robots else "feeds no robot"
    )
    return (
        f"One server of {times.variant.label} on {times.hardware} {fed} at {hz:g} decisions a second each, "
        f"{objective.text}, {found.arrivals} arrivals."
    )


def capacity_table(found: Capacity, objective: Objective) -> Table:
    """Loads about the answer."""
    rows = tuple(
        (
            f"{load.robots}",
            f"{load.p50_ms:.3g}",
            f"{load.quantile_ms:.3g}",
            percent(load.busy),
            f"{load.batch:.1f}",
            "yes" if load.quantile_ms <= objective.limit_ms else "no",
        )
        for load in found.loads
    )
    columns = ("robots", "p50, ms", f"p{100 * objective.quantile:g}, ms", "busy", "batch", "holds")
    note = "Queue, wait for a batch, inference and network; the percentile is the worst of five simulations."
    return Table(f"Robots at one server, {found.arrivals}", columns, rows, 0, note)
