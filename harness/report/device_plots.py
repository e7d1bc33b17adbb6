"""Pictures of success under the latency of devices: against delay, device × NFE, and one episode step by step."""

from __future__ import annotations

from typing import Any

from harness.analysis.summary import Summary
from harness.analysis.timeline import timelines
from harness.report.format import known, percent, text, variant
from harness.report.plots import delay_curve, heat_map, timeline_bars
from harness.report.tables.table import Records, records
from harness.spec.timing import SYNCHRONOUS


def device_plots(summary: Summary) -> list[dict[str, str]]:
    """Pictures with their captions; none in a ledger of the synchronous clock alone."""
    cells = records(summary.devices)
    if all(row["clock"] == SYNCHRONOUS for row in cells):
        return []
    return [*_curves(cells), *_maps(cells), *_timelines(summary)]


def _timelines(summary: Summary) -> list[dict[str, str]]:
    """Per clock: one episode, step by step."""
    plots: list[dict[str, str]] = []
    rates = [float(each["control_hz"]) for each in summary.ledger.manifests.values() if "control_hz" in each]
    for line in timelines(summary.ledger):
        executed = [move.which for move in line.executed]
        told = (
            f"One episode of {variant(line.policy_id, line.nfe)} under {line.clock}, {line.latency_source}: "
            f"{line.episode}, {line.outcome} after {len(executed)} steps, {len(line.flights)} decisions, "
            f"{executed.count('old')} stale and {executed.count('hold')} held steps."
        )
        plot = timeline_bars(
            line.flights, executed, max(rates, default=20.0), name=f"timeline{len(plots)}", description=told
        )
        plots.append({"plot": plot, "caption": told})
    return plots


def _curves(cells: Records) -> list[dict[str, str]]:
    """Per suite: success against delay, a curve for each policy, NFE and clock."""
    plots: list[dict[str, str]] = []
    ran = [row for row in cells if row["n"]]
    for suite in dict.fromkeys(text(row["suite"]) for row in ran):
        here = [row for row in ran if text(row["suite"]) == suite]
        curves: dict[str, list[tuple[float, float, float, float]]] = {}
        plain = {variant(row["policy_id"], row["nfe"]): row for row in here if row["clock"] == SYNCHRONOUS}
        for row in here:
            if row["clock"] == SYNCHRONOUS or not known(row["delay_steps"]):
                continue
            name = variant(row["policy_id"], row["nfe"])
            start = [_point(plain[name], 0.0)] if name in plain else []
            curves.setdefault(f"{name}, {row['clock']}", start).append(_point(row, float(row["delay_steps"])))
        drawn = [(name, sorted(points)) for name, points in curves.items()]
        if drawn:
            told = f"Success on {suite} against the delay of decisions, with 95 % bands."
            plot = delay_curve(drawn, name=f"delay{len(plots)}", description=told)
            plots.append({"plot": plot, "caption": f"{told} Median delay of each source; 0 is the synchronous run."})
    return plots


def _point(row: dict[str, Any], steps: float) -> tuple[float, float, float, float]:
    return (steps, float(row["rate"]), float(row["low"]), float(row["high"]))


def _maps(cells: Records) -> list[dict[str, str]]:
    """Per policy and clock: success by source of delays and NFE, where there is more than one NFE."""
    plots: list[dict[str, str]] = []
    timed = [row for row in cells if row["clock"] != SYNCHRONOUS]
    for policy, clock in dict.fromkeys((text(row["policy_id"]), text(row["clock"])) for row in timed):
        own = [row for row in timed if (text(row["policy_id"]), text(row["clock"])) == (policy, clock)]
        columns = sorted({int(row["nfe"]) for row in own if known(row["nfe"])})
        if len(columns) < 2:
            continue
        sources = list(dict.fromkeys(str(row["latency_source"]) for row in own))
        found = {(str(row["latency_source"]), int(row["nfe"])): row for row in own if known(row["nfe"])}
        body = [[_cell(found.get((source, nfe))) for nfe in columns] for source in sources]
        names = [_name(next(row for row in own if row["latency_source"] == source)) for source in sources]
        told = f"Success of {policy} under {clock}, by device and NFE."
        plot = heat_map(names, [f"NFE {nfe}" for nfe in columns], body, name=f"heat{len(plots)}", description=told)
        plots.append({"plot": plot, "caption": f"{told} A cell without a rate was not run: nothing would be executed."})
    return plots


def _name(row: dict[str, Any]) -> str:
    band = f", {row['band']}" if known(row["band"]) else ""
    return f"{row['device'] if known(row['device']) else row['latency_source']}{band}"


def _cell(row: dict[str, Any] | None) -> tuple[float | None, str]:
    if row is None:
        return None, "–"
    if not row["n"]:
        return None, f"delay {int(row['delay_steps'])} steps" if known(row["delay_steps"]) else "–"
    return float(row["rate"]), percent(row["rate"])
