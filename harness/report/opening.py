"""What stands above the tables: a title, what was run, and what the reader has to know before the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import yaml

from harness.analysis.latency.checks import is_far
from harness.analysis.origin import OriginRecords
from harness.analysis.success.controls import NEGATIVE_MAX, POSITIVE_MIN, ControlFault
from harness.analysis.summary import Summary
from harness.ledger import Ledger
from harness.ledger.import_eval_info import UNKNOWN_OUTCOME
from harness.report.format import percent, variant

Severity = Literal["alarm", "warning", "note"]


@dataclass(frozen=True)
class Notice:
    """Something that the reader has to know before the numbers."""

    level: Severity
    """"alarm": do not use the numbers. "warning": use them knowing this. "note": good to know."""
    title: str
    text: str


@dataclass(frozen=True)
class Opening:
    """What a report begins with."""

    title: str
    sentence: str
    """What was run, without a verdict."""
    partial: bool
    """Whether a run has not finished."""
    notices: tuple[Notice, ...]


def opening(summary: Summary) -> Opening:
    """Say what was run, and what has to be known of it."""
    runs = summary.unfinished.to_dict("records")
    notices = [
        *(_control_notice(fault) for fault in summary.faults),
        *(_unfinished_notice(str(run["run_id"]), str(run["status"])) for run in runs),
        *(Notice("warning", "Rows that contradict each other", text) for text in summary.ledger.notices),
        *_error_notices(summary.ledger.episodes),
        *_throttling_notices(summary.latency),
        *_difference_notices(summary.ledger),
        *_machine_notices(summary.ledger.nodes),
        *_policy_notices(summary.records),
    ]
    ledger = summary.ledger
    return Opening(_title(ledger), _sentence(ledger, summary.success, summary.latency), bool(runs), tuple(notices))


def _control_notice(fault: ControlFault) -> Notice:
    expectation = (
        f"the positive control has to solve at least {percent(POSITIVE_MIN)}"
        if fault.role == "positive"
        else f"the negative control must not solve more than {percent(NEGATIVE_MAX)}"
    )
    return Notice(
        "alarm",
        "The harness or the simulator is broken, not the policy",
        f"{fault.policy_id} solved {fault.successes} of {fault.n} episodes of {fault.suite} ({percent(fault.rate)}), "
        f"but {expectation}. No success rate of this ledger can be trusted until that is explained.",
    )


def _unfinished_notice(run_id: str, status: str) -> Notice:
    states = {
        "running": "has not ended (or was killed)",
        "interrupted": "was interrupted",
        "failed": "failed",
        "stopped": "was stopped early",
    }
    return Notice(
        "warning",
        "Partial results",
        f"Run {run_id} {states.get(status, f'has status {status!r}')}: the numbers cover what was done until then. "
        "Repeat its command with --resume to complete it.",
    )


def _error_notices(episodes: pd.DataFrame) -> list[Notice]:
    """Say how many episodes count in no rate: nothing broke where an imported file does not state a success."""
    errors = episodes[episodes["outcome"] == "error"]
    unknown = errors["error_type"] == UNKNOWN_OUTCOME
    kinds = (
        (errors[~unknown], "ended in an error", "A policy that makes errors on hard episodes looks better than it is."),
        (errors[unknown], "have an unknown outcome", "The imported file does not state whether they succeeded."),
    )
    return [
        Notice(
            "warning",
            f"{len(rows)} of {len(episodes)} episodes {what}",
            f"They count in no success rate (affected: {'; '.join(_variants(rows))}). {why}",
        )
        for rows, what, why in kinds
        if len(rows)
    ]


def _variants(episodes: pd.DataFrame) -> list[str]:
    chosen = episodes[["policy_id", "nfe"]].drop_duplicates().sort_values(["policy_id", "nfe"])
    return [variant(row["policy_id"], row["nfe"]) for row in chosen.to_dict("records")]


def _throttling_notices(latency: pd.DataFrame) -> list[Notice]:
    end_to_end = latency[latency["component"] == "e2e"]
    throttled, n = int(end_to_end["throttled"].sum()), int(end_to_end["n"].sum())
    if not throttled:
        return []
    return [
        Notice(
            "warning",
            f"{throttled} of {n} latency samples were taken while the device throttled",
            "They are part of the percentiles. Cool the device or raise its power limit, and probe again.",
        )
    ]


def _policy_notices(records: OriginRecords) -> list[Notice]:
    return [
        Notice("note", f"About {label}", " ".join(map(str, record["warnings"])))
        for label, record in records.items()
        if record.get("warnings")
    ]


def _difference_notices(ledger: Ledger) -> list[Notice]:
    far = ledger.differences[is_far(ledger.differences)]
    if not len(far):
        return []
    named = [variant(row["policy_id"], row["nfe"]) for row in far.to_dict("records")]
    return [
        Notice(
            "warning",
            f"{len(far)} probed variants do not answer as their reference does",
            f"Their latency is another policy's: {'; '.join(dict.fromkeys(named))}.",
        )
    ]


CPU_FACTS = {"isa": "instruction set", "threads": "number of threads", "gl": "GL renderer"}
"""Columns of `nodes` on which a trajectory depends, with their names."""


def _machine_notices(nodes: pd.DataFrame) -> list[Notice]:
    """Say in what the machines differ that may change an outcome."""
    told = []
    for column, name in CPU_FACTS.items():
        found = sorted({str(value) for value in nodes[column].dropna()}) if column in nodes else []
        if len(found) > 1:
            told.append(f"{name} ({' and '.join(found)})")
    if not told:
        return []
    return [
        Notice(
            "note",
            "The machines differ",
            f"In {', '.join(told)}. Episodes repeat to the bit only where these agree; elsewhere rounding may turn an "
            "outcome.",
        )
    ]


def _title(ledger: Ledger) -> str:
    names = []
    for text in ledger.runs["suite"].dropna():
        suite = yaml.safe_load(text)
        if isinstance(suite, dict) and suite.get("name"):
            names.append(str(suite["name"]) + (f":{suite['variant']}" if suite.get("variant") else ""))
    names += [] if names else list(ledger.episodes["suite"].dropna().unique())
    return " + ".join(dict.fromkeys(names)) or "latency"


def _sentence(ledger: Ledger, suites: pd.DataFrame, latency: pd.DataFrame) -> str:
    parts = []
    if len(suites):
        policies = [variant(*key) for key in suites[["policy_id", "nfe"]].drop_duplicates().to_numpy().tolist()]
        tasks = ledger.episodes[["suite", "task_id"]].drop_duplicates()
        named = list(suites["suite"].dropna().drop_duplicates()) or ["an unnamed suite"]  # imported without one
        parts.append(
            f"{_plural(len(ledger.episodes), 'episode')} of {_listing(named)} "
            f"({_plural(len(tasks), 'task')}) with {_listing(policies)}"
        )
    if len(latency):
        probed = ledger.latency[ledger.latency["component"] == "e2e"]
        values = sorted(int(value) for value in probed["nfe"].dropna().unique())
        at = f" at NFE {_listing([str(value) for value in values])}" if values else ""
        policies, hardware = (sorted(probed[name].dropna().unique()) for name in ("policy_id", "hardware"))
        parts.append(
            f"{_plural(len(probed), 'timed decision')} of {_listing(policies)}{at} "
            f"on {_listing(hardware or ['unknown hardware'])}"
        )
    return "; ".join(parts) + "." if parts else "Nothing was measured yet."


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
