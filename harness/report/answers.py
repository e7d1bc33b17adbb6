"""The first lines of a page: which policy is better, what is not decided, where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.analysis.latency.percentiles import CONFIGURATION
from harness.analysis.summary import Summary
from harness.report.format import (
    count,
    known,
    number,
    number_interval,
    percent,
    percent_interval,
    points,
    probability,
    task_name,
    text,
)
from harness.report.names import VariantNames, decision_names
from harness.report.tables.table import records

if TYPE_CHECKING:
    from harness.analysis.latency.scaling import ScalingClaim

Mark = Literal["yes", "no", "open"]

LONGEST_ERROR = 300
"""Characters of an error message in the answer."""

MAX_ANSWERS = 6
"""Pairs, devices and tasks that are told above; the tables below have all."""


@dataclass(frozen=True)
class AnswerLine:
    """One sentence of the answer."""

    mark: Mark
    """"yes": decided. "open": not decided. "no": a verdict against."""
    sentence: str
    detail: str


def success_lines(summary: Summary, names: VariantNames) -> list[AnswerLine]:
    """Which policy is better on success, pair by pair."""
    rows = records(summary.success_answers)
    lines = [_success_line(row, names) for row in rows[:MAX_ANSWERS]]
    if not rows:
        lines = [
            AnswerLine("yes", f"{names.of(row)} solves {percent(row['rate'])} of {_suite(row)}.", _rate_detail(row))
            for row in records(summary.success)
            if row["policy_id"] not in summary.roles and known(row["rate"])
        ][:MAX_ANSWERS] or [*_error_lines(summary), *_control_lines(summary, names)]
    if len(rows) > MAX_ANSWERS:
        more = len(rows) - MAX_ANSWERS
        told = "1 more pair is" if more == 1 else f"{count(more)} more pairs are"
        lines.append(AnswerLine("open", f"{told} in the table of pairs.", ""))
    return lines


def _control_lines(summary: Summary, names: VariantNames) -> list[AnswerLine]:
    """Where only controls ran: what they did."""
    rows = [row for row in records(summary.success) if row["policy_id"] in summary.roles and known(row["rate"])]
    rows = sorted(rows, key=lambda row: summary.roles[row["policy_id"]] == "negative")[:MAX_ANSWERS]
    if not rows:
        return []
    told = "; ".join(f"{names.of(row)} solves {percent(row['rate'])} of {_suite(row)}" for row in rows)
    begin = "Controls alone" if summary.faults else "The controls did what they should"
    detail = " ".join(f"{names.of(row)}, {summary.roles[row['policy_id']]}: {_rate_detail(row)}" for row in rows)
    return [AnswerLine("no" if summary.faults else "yes", f"{begin}: {told}.", detail)]


def _error_lines(summary: Summary) -> list[AnswerLine]:
    """Where no episode has a result: why."""
    errors, scored = (int(summary.success[name].sum()) for name in ("errors", "n"))
    if scored or not errors:
        return []
    first = records(summary.errors)[0]
    kinds = len(summary.errors)
    told = f"{text(first['error_type'])}: {text(first['error_message'])}"
    return [
        AnswerLine(
            "no",
            f"No episode has a result: {_counted(errors, 'ended')} in an error.",
            f"{'The most frequent' if kinds > 1 else 'Every time'}: {told[:LONGEST_ERROR]}",
        )
    ]


def _counted(n: int, verb: str) -> str:
    return f"the one {verb}" if n == 1 else f"all {count(n)} {verb}"


def _suite(row: Mapping[str, Any]) -> str:
    return str(row["suite"]) if known(row["suite"]) else "an unnamed suite"


def _rate_detail(row: Mapping[str, Any]) -> str:
    interval = percent_interval(row["low"], row["high"])
    return (
        f"{count(row['successes'])} of {count(row['n'])} episodes, 95 % interval {interval}. Nothing to compare with."
    )


def _success_line(row: Mapping[str, Any], names: VariantNames) -> AnswerLine:
    policy, base = names.of(row), names.of(row, "base_policy_id", "base_nfe")
    better, other = (policy, base) if row["difference"] >= 0 else (base, policy)
    sign = 1 if row["difference"] >= 0 else -1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    only = (row["gained"], row["lost"]) if sign > 0 else (row["lost"], row["gained"])
    seen = (
        f"{points(abs(row['difference']))} points of success (95 % interval {points(low)} … {points(high)}) over "
        f"{count(row['n'])} pairs; only {better} solved {count(only[0])}, only {other} {count(only[1])}; Holm p "
        f"{probability(row['p_holm'])}."
    )
    if row["decided"]:
        return AnswerLine("yes", f"{better} succeeds more often than {other}.", seen)
    enough = f"about {count(row['needed'])} pairs" if known(row["needed"]) else "more pairs than can be counted"
    asked = f"{100 * row['asked']:.1f} points"
    return AnswerLine(
        "open", f"{better} against {other}: success is not decided.", f"{seen} {asked} would be decided by {enough}."
    )


def latency_lines(summary: Summary, names: VariantNames) -> list[AnswerLine]:
    """Which decision is faster on each device."""
    lines = []
    rows = records(summary.latency_answers)
    for hardware in dict.fromkeys(text(row["hardware"]) for row in rows):
        own = [row for row in rows if text(row["hardware"]) == hardware]
        (name, *others), shared = decision_names(own)
        first, rest = own[0], own[1:]
        told = "; ".join(
            f"{other} {_milliseconds(row)}, {number(row['ratio'])}×"
            + ("" if row["decided"] else " (intervals overlap or are missing)")
            for other, row in list(zip(others, rest, strict=True))[:MAX_ANSWERS]
        )
        more = f"; {len(rest) - MAX_ANSWERS} more below" if len(rest) > MAX_ANSWERS else ""
        # Processes of one binary differ in level, which the interval of a single one does not show.
        alone = min(first["launches"], rest[0]["launches"]) < 2
        within = " Within one launch a side: another may differ (`harness probe --launches 5`)." if alone else ""
        lines.append(
            AnswerLine(
                "yes" if rest[0]["decided"] and not alone else "open",
                f"Fastest decision on {hardware}: {name}, {_milliseconds(first)}.",
                f"{told}{more}.{f' All: {shared}.' if shared else ''}{within}",
            )
        )
    return lines or _only_lines(summary) or _served_lines(summary, names)


def _only_lines(summary: Summary) -> list[AnswerLine]:
    """Where each device timed one decision: what it takes."""
    rows = [row for row in records(summary.latency) if row["component"] == "e2e"][:MAX_ANSWERS]
    return [
        AnswerLine(
            "yes",
            f"A decision of {decision_names([row])[0][0]} takes {_milliseconds(row)} on {text(row['hardware'])}.",
            f"Median of {count(row['n'])}; p99 {number(row['p99'])} ms. Nothing to compare with.",
        )
        for row in rows
    ]


def _served_lines(summary: Summary, names: VariantNames) -> list[AnswerLine]:
    """Without a probe: what decisions of the episodes took."""
    rows = [row for row in records(summary.decisions) if row["policy_id"] not in summary.roles]
    if not rows or not any(known(row["infer_median"]) for row in rows):
        return []
    told = "; ".join(
        f"{names.of(row)} on {text(row['hardware'])} {number(row['infer_median'])} ms" for row in rows[:MAX_ANSWERS]
    )
    return [AnswerLine("open", "Latency was not probed.", f"Median inference in closed loop, batches shared: {told}.")]


def _milliseconds(row: Mapping[str, Any]) -> str:
    interval = number_interval(row["median_low"], row["median_high"])
    return f"{number(row['median'])} ms" + (f" ({interval})" if known(row["median_low"]) else "")


def worst_lines(summary: Summary, names: VariantNames) -> list[AnswerLine]:
    """On which task each contestant fails worst; those that share it in one line."""
    places: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    seen = set()
    for row in records(summary.worst_tasks):
        if (name := names.of(row)) not in seen:
            seen.add(name)
            places.setdefault((text(row["suite"]), row["task_id"], row["task"]), []).append(row)
    return [_worst_line(place, rows, names) for place, rows in list(places.items())[:MAX_ANSWERS]]


def _worst_line(place: tuple[Any, ...], rows: Sequence[Mapping[str, Any]], names: VariantNames) -> AnswerLine:
    suite, task_id, task = place
    who = names.of(rows[0]) if len(rows) == 1 else f"{count(len(rows))} policies"
    told = "; ".join(
        (f"{names.of(row)}: " if len(rows) > 1 else "")
        + f"{count(row['successes'])} of {count(row['n'])} solved, 95 % interval "
        + percent_interval(row["low"], row["high"])
        + (f", {count(row['errors'])} error{'s' if row['errors'] > 1 else ''} apart" if row["errors"] else "")
        for row in rows
    )
    verb = "fails" if len(rows) == 1 else "fail"
    return AnswerLine("no", f"{who} {verb} worst on task {count(task_id)} of {suite}: {task_name(task)}.", f"{told}.")


def verdict(summary: Summary, names: VariantNames) -> str:
    """A report in one line: do not use it, or which policy is better on success and which decision is faster."""
    if summary.faults:
        broken = ", ".join(dict.fromkeys(fault.policy_id for fault in summary.faults))
        return f"Do not use these numbers: the control {broken} did what it cannot do."
    names = names.spelled_out  # this line stands alone: on a terminal before the key, in a tracker without it
    success = success_lines(summary, names)
    rows = records(summary.success_answers)
    told = [line.sentence for line in success[:1]]
    if len(rows) > 1:
        told.append(f"{sum(bool(row['decided']) for row in rows)} of {len(rows)} pairs of policies are decided.")
    told += [line.sentence for line in latency_lines(summary, names)[:1] if len(summary.latency)]
    return " ".join(told) or "Nothing was measured yet."


def limits_verdict(summary: Summary | None, across: Sequence[ScalingClaim]) -> str:
    """A prefix table in one line: what limits each component, and how many claims across devices hold."""
    told = []
    if summary is not None and len(summary.roofline):
        rows = summary.roofline.sort_values("nfe")
        rows = rows[rows["component"].isin(["vision", "prefix", "denoise_step"])]
        first = rows.drop_duplicates([*CONFIGURATION, "component"], keep="first")
        for component, group in first.groupby("component", sort=False):
            found = group["verdict"].value_counts()
            of = f" ({found.iloc[0]} of {len(group)} configurations)" if len(group) > 1 else ""
            limit = "no single floor" if found.index[0] == "mixed" else found.index[0]
            told.append(f"{str(component).replace('_', ' ')}: {limit}{of}")
    lines = [f"What limits a decision: {'; '.join(told)}."] if told else []
    if across:
        held = sum(claim.answer == "consistent" for claim in across)
        lines.append(f"Across devices {held} of {len(across)} claims are consistent with the data, the rest rejected.")
    return " ".join(lines) or "What limits a decision is not known: these ledgers hold no counted component."
