"""Everything that a report says, computed once: every rendering shows the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import yaml

from harness.analysis import (
    control_faults,
    control_roles,
    decision_latency,
    error_counts,
    latency_by_component,
    prefix_fit,
    success_by_suite,
    success_by_task,
    throughput,
    time_shares,
)
from harness.analysis.latency.checks import is_far
from harness.analysis.latency.roofline import roofline
from harness.analysis.origin import OriginRecords, naive_single_steps, policy_records
from harness.analysis.success.controls import NEGATIVE_MAX, POSITIVE_MIN, ControlFault, Role
from harness.ledger import Ledger
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
class Summary:
    """A ledger and all that was computed from it; the frames are those of `harness.analysis`."""

    ledger: Ledger
    title: str
    sentence: str
    """What was run, without a verdict."""
    partial: bool
    """Whether a run has not finished."""
    notices: tuple[Notice, ...]
    roles: dict[str, Role]
    suites: pd.DataFrame
    tasks: pd.DataFrame
    errors: pd.DataFrame
    time: pd.DataFrame
    throughput: pd.DataFrame
    latency: pd.DataFrame
    prefix: pd.DataFrame
    roofline: pd.DataFrame
    decisions: pd.DataFrame
    records: OriginRecords
    """What the runs recorded of their policies' origin."""
    naive: frozenset[tuple[str, int]]
    """Variants that run a multi-step policy with one step."""


def summarise(ledger: Ledger) -> Summary:
    """Compute everything that a report shows."""
    suites = success_by_suite(ledger.episodes)
    roles = control_roles(ledger.episodes["policy_id"].dropna().unique(), ledger.runs["suite"])
    latency = latency_by_component(ledger.latency)
    unfinished = ledger.runs[~ledger.runs["status"].isin(["finished", "imported"])]
    records = policy_records(ledger.runs)
    notices = [
        *(_control_notice(fault) for fault in control_faults(suites, roles)),
        *(_unfinished_notice(str(run["run_id"]), str(run["status"])) for run in unfinished.to_dict("records")),
        *(Notice("warning", "Rows that contradict each other", text) for text in ledger.notices),
        *_error_notices(suites),
        *_throttling_notices(latency),
        *_difference_notices(ledger),
        *_policy_notices(records),
    ]
    return Summary(
        ledger=ledger,
        title=_title(ledger),
        sentence=_sentence(ledger, suites, latency),
        partial=len(unfinished) > 0,
        notices=tuple(notices),
        roles=roles,
        suites=suites,
        tasks=success_by_task(ledger.episodes),
        errors=error_counts(ledger.episodes),
        time=time_shares(ledger.episodes),
        throughput=throughput(ledger.episodes),
        latency=latency,
        prefix=prefix_fit(ledger.latency),
        roofline=roofline(ledger.latency, ledger.counts, ledger.nodes),
        decisions=decision_latency(ledger.decisions),
        records=records,
        naive=naive_single_steps(records, ledger.episodes[["policy_id", "nfe"]].drop_duplicates().to_numpy()),
    )


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
    }
    return Notice(
        "warning",
        "Partial results",
        f"Run {run_id} {states.get(status, f'has status {status!r}')}: the numbers cover what was done until then. "
        "Repeat its command with --resume to complete it.",
    )


def _error_notices(suites: pd.DataFrame) -> list[Notice]:
    errors, n = int(suites["errors"].sum()), int(suites["n"].sum())
    if not errors:
        return []
    affected = [variant(row["policy_id"], row["nfe"]) for row in suites[suites["errors"] > 0].to_dict("records")]
    return [
        Notice(
            "warning",
            f"{errors} of {errors + n} episodes ended in an error",
            f"They count in no success rate (affected: {'; '.join(dict.fromkeys(affected))}). "
            "A policy that makes errors on hard episodes looks better than it is.",
        )
    ]


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
        parts.append(
            f"{_plural(len(ledger.episodes), 'episode')} of {_listing(list(suites['suite'].drop_duplicates()))} "
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
