"""A night: where its ledger lies, and what follows from it. The run in between is `harness.cluster.run`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from harness.analysis.paired.pairing import Side, last_status, read_sides
from harness.errors import EXIT_OK, HarnessError, LedgerError, UsageError
from harness.gate import GateResult, gate
from harness.gate.baseline import find_baseline, read_baselines, set_baseline
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.notify import News, notify
from harness.schedule.status import RunStatus
from harness.spec.rules import load_rules

REPORT = "gate.md"
"""The verdict, inside the night's ledger."""
_NAME = re.compile(r"^\d{8}-\d{6}$")


@dataclass(frozen=True, slots=True)
class NightlyRequest:
    """What a nightly gate was asked for."""

    root: str
    suite: str
    rules: str
    baseline: str
    accept: bool
    """Whether a night that passes becomes the new baseline."""


@dataclass(frozen=True, slots=True)
class NightEnd:
    """How a night ended."""

    exit_code: int
    gate: GateResult | None
    """None on the first night, which is the baseline."""
    lines: tuple[str, ...]
    """What else there is to say."""


def open_night(night: NightlyRequest, policy: str, now: datetime) -> str:
    """Choose the night's ledger: the last one, if it was cut off with the same policy, else a new one.

    A night that has its verdict, or is a baseline, is over, whatever its last run says.

    Args:
        night: What was asked for.
        policy: Label of the policy.
        now: Time of day, UTC.

    Returns:
        Path or URI.
    """
    load_rules(night.rules)  # wrong rules are refused before hours of episodes
    root = night.root.rstrip("/")
    location = Location.of(root)
    infos = location.filesystem.get_file_info(pafs.FileSelector(location.root, allow_not_found=True))
    nights = sorted(info.base_name for info in infos if not info.is_file and _NAME.match(info.base_name))
    if nights and not _is_over(root, nights[-1]) and _was_cut_off(f"{root}/{nights[-1]}", policy):
        return f"{root}/{nights[-1]}"
    return f"{root}/{now:%Y%m%d-%H%M%S}"


def conclude_night(night: NightlyRequest, out: str, now: datetime, template: str | None) -> NightEnd:
    """Judge a night that has run to its end, keep the verdict beside its ledger, and tell people.

    Raises:
        HarnessError: The night cannot be judged.
    """
    root = Location.of(night.root)
    side = _only_side(out)
    if not any(record.name == night.baseline for record in read_baselines(night.root)):
        set_baseline(night.root, out, now, name=night.baseline, note="first night")
        summary = f"{side.label}: the first night is the baseline {night.baseline!r}."
        fault = _tell(template, News("PASS", out, out, side.label, summary))
        return NightEnd(EXIT_OK, None, (summary, *fault))
    record = find_baseline(night.root, side, night.baseline)
    base = record.path(root.root)
    if Location.of(base).root == Location.of(out).root:
        raise LedgerError(f"The night {out!r} is itself the baseline {night.baseline!r}, so nothing can be judged.")
    result = gate(base, out, load_rules(night.rules))
    report = _write_report(out, result)
    lines = [f"Report: {report}"]
    if result.verdict.exit_code == EXIT_OK and night.accept:
        set_baseline(night.root, out, now, name=night.baseline, note=f"passed {night.rules}")
        lines.append(f"Accepted as the new baseline {night.baseline!r}")
    judged = [one for one in result.results if not one.reported]
    failed = [f"{one.rule}: {one.reason}" for one in judged if one.verdict is not result.verdict]
    told = [f"{one.rule}: {one.reason}" for one in judged if one.verdict is result.verdict]
    reasons = told if result.verdict.exit_code != EXIT_OK else failed
    summary = " ".join([f"{side.label}: {result.verdict} by {night.rules}.", *reasons])
    lines += _tell(template, News(result.verdict.value, report, out, side.label, summary))
    return NightEnd(result.verdict.exit_code, result, tuple(lines))


def tell_failure(template: str | None, out: str, policy: str, error: Exception) -> tuple[str, ...]:
    """Tell people that a night did not run, or could not be judged: that is no verdict, and silence looks like PASS.

    Returns:
        What went wrong in telling; empty when nothing did.
    """
    what = f"{type(error).__name__}: {error}"
    return _tell(template, News("ERROR", "", out, policy, f"{policy}: the night was not judged. {what}"))


def _is_over(root: str, night: str) -> bool:
    location = Location.of(f"{root}/{night}")
    judged = location.filesystem.get_file_info(f"{location.root}/{REPORT}").is_file
    return judged or any(Location.of(one.path(root)).root == location.root for one in read_baselines(root))


def _only_side(out: str) -> Side:
    sides = read_sides(out)
    if len(sides) != 1:
        raise UsageError(f"A night judges one policy at one NFE, but {out!r} has {len(sides)}. Choose one with --nfe.")
    return sides[0]


def _was_cut_off(ledger: str, policy: str) -> bool:
    try:
        if last_status(ledger) not in [status for status in RunStatus if status.resumable]:
            return False
        held = {row["policy_id"] for row in read_rows(Location.of(ledger), "episodes", ["policy_id"])}
    except HarnessError:
        return False
    return held <= {policy}


def _write_report(out: str, result: GateResult) -> str:
    """Write the verdict as Markdown into the night's ledger; returns its path."""
    from harness.report.gate.markdown import render_gate_markdown

    location = Location.of(out)
    path = f"{location.root}/{REPORT}"
    location.write_whole(path, pa.py_buffer(render_gate_markdown(result).encode()))
    return path if location.is_local else f"{out.rstrip('/')}/{Path(path).name}"


def _tell(template: str | None, news: News) -> tuple[str, ...]:
    fault = notify(template, news) if template is not None else None
    return () if fault is None else (f"The notification failed, which changes no verdict: {fault}",)
