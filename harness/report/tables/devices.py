"""Success × device × NFE, beside the synchronous run of the same episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.devices import rank_changes
from harness.analysis.summary import Summary
from harness.report.format import (
    NONE,
    count,
    known,
    number,
    number_interval,
    percent,
    percent_interval,
    points,
    probability,
    text,
    variant,
)
from harness.report.tables.table import Table, records
from harness.spec.timing import SYNCHRONOUS


def device_tables(summary: Summary) -> list[Table]:
    """Success under each clock and source of delays, and how the robot moved; none in a synchronous ledger."""
    cells = _by_delay(records(summary.devices))
    if all(row["clock"] == SYNCHRONOUS for row in cells):
        return []
    names, key = _names(cells)
    return [
        Table(
            "Success under the latency of devices",
            (
                "policy",
                "clock",
                "delays",
                "steps",
                "solved",
                "rate",
                "95 % interval",
                "to synchronous",
                "95 %",
                "Holm p",
            ),
            tuple(_success_row(row, names) for row in cells),
            3,
            _note(summary),
            key,
        ),
        Table(
            "Motion under the latency of devices",
            ("policy", "clock", "delays", "completion", "stale", "control rate", "hold", "jerk", "J a success", "95 %"),
            tuple(_motion_row(row, names) for row in cells if row["n"]),
            3,
            MOTION_NOTE,
            key,
        ),
    ]


SUCCESS_COLUMNS = (
    *("policy", "clock", "delays", "steps", "solved", "rate", "95 % interval"),
    *("to synchronous", "95 %", "Holm p"),
)
SUCCESS_NOTE = (
    "steps: control steps from an observation to its action in hand, median over decisions (longest). 95 % interval: "
    "Clopper-Pearson. to synchronous: points of success more than in the synchronous run, over the same episodes, with "
    "Tango's score interval; p: exact McNemar, after Holm's correction over the table."
)
MOTION_NOTE = (
    "completion: median simulated seconds of successes. stale: share of steps that executed an old chunk during a "
    "decision. control rate: actions of the policy a simulated second, Hz. hold: mean seconds that an episode held. "
    "jerk: median RMS of the end effector's, m/s³. J a success: energy of all decisions over the successes, where the "
    "device's was measured; 95 %: over episodes."
)


def _by_delay(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each policy's cells of a clock in the order of their delays."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in cells:
        groups.setdefault(tuple(str(row[name]) for name in ("policy_id", "nfe", "clock")), []).append(row)
    return [
        row
        for group in groups.values()
        for row in sorted(group, key=lambda row: row["delay_steps"] if known(row["delay_steps"]) else 0.0)
    ]


def _note(summary: Summary) -> str:
    notes = [SUCCESS_NOTE]
    cells = summary.devices
    timed = cells[(cells["clock"] != SYNCHRONOUS) & (cells["n"] > 0)]
    if len(timed) and timed["pairs"].isna().any():
        notes.append(
            "Not all cells have a synchronous run to be paired with: add it with --clock synchronous --resume."
        )
    if changes := rank_changes(cells):
        notes.append("The device changes which NFE is better: " + " ".join(changes))
    return " ".join(notes)


def _names(cells: list[dict[str, Any]]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Source of delays → name in rows, and the lines above that say what a name stands for."""
    rows = {str(row["latency_source"]): row for row in cells if known(row["latency_source"])}
    labels = {source: _label(source, row) for source, row in rows.items()}
    names: dict[str, str] = {}
    for source, label in labels.items():
        alike = [other for other, theirs in labels.items() if theirs == label]
        # One device's timings of a policy under several options: the options that not all of them have tell them apart.
        shared = set.intersection(*(_options(rows[other]) for other in alike))
        own = [label, *sorted(_options(rows[source]) - shared)]
        name = ", ".join(own)
        names[source] = name if name not in names.values() else source
    return names, tuple(f"{name}: {source}." for source, name in names.items() if name != source)


def _label(source: str, row: Mapping[str, Any]) -> str:
    device = text(row["device"]) if known(row["device"]) else source
    return f"{device}, {row['band']}" if known(row["band"]) else device


def _options(row: Mapping[str, Any]) -> set[str]:
    timed = text(row["timing_of"]) if known(row["timing_of"]) else ""
    return {option for option in timed.partition("?")[2].split("&") if option}


def _place(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, str, str]:
    source = row["latency_source"]
    return (variant(row["policy_id"], row["nfe"]), text(row["clock"]), names[source] if known(source) else NONE)


def _success_row(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, ...]:
    if not row["n"]:
        reason = text(row["reason"]) if known(row["reason"]) else "no scored episode"
        return (*_place(row, names), count(row["delay_steps"]), reason, *[NONE] * 5)
    steps = number(row["delay_steps"])
    if known(row["delay_steps_max"]) and row["delay_steps_max"] != row["delay_steps"]:
        steps += f" ({count(row['delay_steps_max'])})"
    bounds = f"{points(row['difference_low'])} … {points(row['difference_high'])}" if known(row["difference"]) else NONE
    return (
        *_place(row, names),
        steps,
        f"{count(row['successes'])}/{count(row['n'])}",
        percent(row["rate"]),
        percent_interval(row["low"], row["high"]),
        points(row["difference"]),
        bounds,
        probability(row["p_holm"]),
    )


def _motion_row(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, ...]:
    return (
        *_place(row, names),
        f"{number(row['completion_s'])} s" if known(row["completion_s"]) else NONE,
        percent(row["stale_share"]),
        number(row["control_hz"]),
        f"{number(row['hold_s'])} s" if known(row["hold_s"]) else NONE,
        number(row["jerk_m_s3"]),
        number(row["joules_per_success"]),
        number_interval(row["joules_low"], row["joules_high"]),
    )
