"""Success per suite and task, pairs of policies, and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.summary import Summary
from harness.report.format import (
    NONE,
    count,
    known,
    number,
    percent,
    percent_interval,
    points,
    probability,
    task_name,
    text,
    variant,
)
from harness.report.names import VariantNames
from harness.report.tables.table import Table, records


def success_table(summary: Summary, names: VariantNames) -> Table:
    """Success of each policy on each suite."""
    found = records(summary.success)
    credited = any(row["score"] == row["score"] for row in found)
    rows = [
        (
            names.with_role(row),
            text(row["suite"]),
            f"{count(row['successes'])}/{count(row['n'])}",
            percent(row["rate"]),
            percent_interval(row["low"], row["high"]),
            count(row["timeouts"]),
            count(row["errors"]),
            count(row["retried"]),
            number(row["steps"]),
            *((number(row["score"]),) if credited else ()),
        )
        for row in found
    ]
    columns = ("policy", "suite", "solved", "rate", "95 % interval", "timeouts", "errors", "retried", "steps")
    if credited:
        return Table("Success", (*columns, "score"), tuple(rows), 2, f"{SUCCESS_NOTE} {SCORE_NOTE}", names.key)
    return Table("Success", columns, tuple(rows), 2, SUCCESS_NOTE, names.key)


SCORE_NOTE = "score: mean partial credit, 1 for a solved episode, less for how far a failed one came."


SUCCESS_NOTE = (
    "solved: successes / scored episodes (success + timeout). Errors of the infrastructure count in no rate and are "
    "shown apart. 95 % interval: Clopper-Pearson. steps: median control steps of successes."
)


def task_tables(summary: Summary, names: VariantNames) -> list[Table]:
    """Success per task: one table per suite, one column per policy and NFE."""
    tables = []
    for suite, rows in summary.tasks.groupby("suite", sort=False):
        variants = list(dict.fromkeys(names.of(row) for row in records(rows)))
        cells: dict[tuple[int, str], dict[str, str]] = {}
        for row in records(rows):
            number = row["task_id"]
            cell = cells.setdefault((-1 if pd.isna(number) else int(number), task_name(row["task"])), {})
            cell[names.of(row)] = _task_cell(row)
        body = tuple(
            (str(task_id) if task_id >= 0 else NONE, task, *(cell.get(name, NONE) for name in variants))
            for (task_id, task), cell in sorted(cells.items())
        )
        tables.append(Table(f"Success per task: {suite}", ("id", "task", *variants), body, 2, TASK_NOTE, names.key))
    return tables


TASK_NOTE = "solved / scored episodes (95 % Clopper-Pearson interval, per cent)"


def _task_cell(row: Mapping[str, Any]) -> str:
    errors = f" +{count(row['errors'])} error{'s' if row['errors'] > 1 else ''}" if row["errors"] else ""
    interval = f" ({100 * row['low']:.0f}–{100 * row['high']:.0f})" if row["n"] else ""
    return f"{count(row['successes'])}/{count(row['n'])}{interval}{errors}"


def paired_table(summary: Summary, names: VariantNames) -> Table:
    """Every two policies on the episodes that both ran; controls are left out."""
    rows = tuple(
        (
            names.of(row),
            names.of(row, "base_policy_id", "base_nfe"),
            text(row["suite"]) if row["suite"] is not None else "all",
            count(row["n"]),
            points(row["difference"]),
            f"{points(row['low'])} … {points(row['high'])}",
            count(row["lost"]),
            count(row["gained"]),
            probability(row["p_holm"]),
        )
        for row in records(summary.paired)
        if not {row["policy_id"], row["base_policy_id"]} & set(summary.roles)
    )
    columns = ("policy", "against", "suite", "pairs", "difference", "95 % interval", "lost", "gained", "Holm p")
    return Table("Pairs of policies, points of success", columns, rows, 3, PAIRED_NOTE, names.key)


PAIRED_NOTE = (
    "The same episodes under both; difference: success of the first minus that of the second, with Tango's score "
    "interval (Edwards' correction). lost, gained: only the second, only the first solved it. p: exact "
    "McNemar, after Holm's correction over all pairs of policies, controls included."
)


MAX_ERRORS = 40
"""Distinct errors in a table; a policy that returns another NaN at every step makes thousands."""


def error_table(summary: Summary, names: VariantNames) -> Table:
    """Every error with its message, most frequent first."""
    rows = tuple(
        (
            names.of(row),
            text(row["error_type"]),
            text(row["error_message"]),
            count(row["count"]),
            count(row["tasks"]),
        )
        for row in records(summary.errors.head(MAX_ERRORS))
    )
    rest = summary.errors["count"].iloc[MAX_ERRORS:]
    note = f"{len(rest)} further messages ({count(rest.sum())} episodes) are in the ledger only." if len(rest) else ""
    return Table("Errors", ("policy", "error", "message", "episodes", "tasks"), rows, 3, note, names.key)


def retry_table(summary: Summary, names: VariantNames) -> Table:
    """Every attempt that failed and was made again, by node and error."""
    rows = tuple(
        (
            names.of(row),
            text(row["node_id"]),
            text(row["error_type"]),
            text(row["error_message"]),
            count(row["count"]),
        )
        for row in records(summary.retries.head(MAX_ERRORS))
    )
    note = "Attempts that failed and were made again; their episodes are counted by the attempt that ended."
    return Table("Retries", ("policy", "node", "error", "first message", "attempts"), rows, 4, note, names.key)


def published_success_table(frame: pd.DataFrame) -> Table:
    """Measured success beside each published row of the same model and suite."""
    rows = tuple(
        (
            variant(row["policy_id"], row["nfe"]),
            text(row["suite"]),
            f"{text(row['variant'])}{f', NFE {count(row["published_nfe"])}' if known(row['published_nfe']) else ''}",
            text(row["source"]),
            text(row["verdict"]),
            "; ".join(row["differences"]) or NONE,
            f"{count(row['successes'])}/{count(row['n'])} = {percent(row['rate'])}",
            percent_interval(row["low"], row["high"]),
            f"{percent(row['published_rate'])} of {count(row['published_n'])}",
            percent_interval(row["published_low"], row["published_high"]) if known(row["published_n"]) else NONE,
            probability(row["p"]),
            percent(row["found_below"]),
        )
        for row in records(frame)
    )
    columns = (
        *("policy", "suite", "published", "source", "verdict", "protocol: here against published"),
        *("here", "95 %", "there", "95 %", "p", "would find"),
    )
    return Table("Published success", columns, rows, 6, PUBLISHED_NOTE)


PUBLISHED_NOTE = (
    "95 %: Clopper-Pearson, each side from its own episodes. p: Fisher's exact test; where a source states no number "
    "of episodes, its rate is taken as exact and the test is binomial. Not corrected for the number of rows. would "
    "find: a true rate of this or less is called worse in 80 of 100 evaluations of so many episodes; where that is "
    "more than 25 points below the published rate, finding no difference means: cannot tell at this n."
)
