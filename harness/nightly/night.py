"""A night: where its ledger lies, and what follows from it. The run in between is `harness.cluster.run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harness.analysis.paired.pairing import Side, last_status, read_sides
from harness.errors import EXIT_OK, HarnessError, LedgerError, UsageError
from harness.gate import GateResult, gate
from harness.gate.baseline import Baseline, current_baselines, find_baseline, read_baselines, set_baseline
from harness.gate.nights import series_key
from harness.gate.rerun import Recipe, read_recipe
from harness.gate.verdict import Verdict, verdict_of
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.nightly.first_night import judge_first_night
from harness.nightly.upkeep import list_nights
from harness.notify import News, notify
from harness.schedule.status import RunStatus
from harness.schedule.units import EpisodeUnit
from harness.spec.manifest import manifest_sha256, require_equal_manifests
from harness.spec.rules import load_rules

REPORT = "gate.md"
"""The verdict, inside the night's ledger."""


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
    """None on a night without a base, which is accepted by absolute rules or not at all."""
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
    nights = list_nights(root)
    if nights and not _is_over(root, nights[-1]) and _was_cut_off(f"{root}/{nights[-1]}", policy):
        return f"{root}/{nights[-1]}"
    return f"{root}/{now:%Y%m%d-%H%M%S}"


def admit_night(night: NightlyRequest, plan: Sequence[EpisodeUnit], manifests: Mapping[str, Mapping[str, Any]]) -> None:
    """What a run of a night asks before its first episode: an `Admission`.

    Raises:
        UsageError: See `require_known_protocol`.
    """
    suites = tuple(sorted({unit.suite for unit in plan}))
    for nfe in {unit.nfe for unit in plan}:
        require_known_protocol(night, suites, nfe, manifests)


def conclude_night(night: NightlyRequest, out: str, now: datetime, template: str | None) -> NightEnd:
    """Judge a night that has run to its end, keep the verdict beside its ledger, and tell people.

    Raises:
        UsageError: Its protocol or its hardware is not that of the baseline.
        HarnessError: The night cannot be judged.
    """
    root = Location.of(night.root)
    side = _only_side(out)
    if not any(record.name == night.baseline for record in read_baselines(night.root)):
        return _begin_line(night, side, out, now, template, "first night")
    key = series_key(side)
    require_known_protocol(night, key.suites, key.nfe, side.manifests)
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


def accepted_recipe(night: NightlyRequest) -> tuple[Baseline, Recipe]:
    """The accepted checkpoint and how it was run, to run it again under a new protocol.

    Raises:
        UsageError: No baseline of that name, or its ledger does not say how it was run.
    """
    records = [one for one in current_baselines(read_baselines(night.root)) if one.name == night.baseline]
    if not records:
        raise UsageError(f"{night.root!r} has no baseline {night.baseline!r} to run again. Run a first night instead.")
    record = max(records, key=lambda one: one.accepted_at)
    (side,) = read_sides(record.path(Location.of(night.root).root), policy=record.policy_id, nfe=record.nfe)
    return record, read_recipe(side)


def require_accepted_policy(record: Baseline, policy: str | None) -> None:
    """Refuse to rebase with another policy where no checkpoint tells the two apart.

    Raises:
        UsageError: The accepted policy has no checkpoint, and another name.
    """
    if record.checkpoint is None and policy != record.policy_id:
        raise UsageError(
            f"The accepted policy is {record.policy_id!r}, not {policy!r}; nothing was accepted. Leave --policy out: "
            "--rebase runs the accepted one again."
        )


def conclude_rebase(night: NightlyRequest, record: Baseline, out: str, now: datetime, template: str | None) -> NightEnd:
    """Make a rerun of the accepted checkpoint the baseline of its new protocol.

    Raises:
        UsageError: Another checkpoint ran than the accepted one.
    """
    side = _only_side(out)
    require_accepted_policy(record, side.policy_id)
    if side.checkpoint != record.checkpoint:
        raise UsageError(
            f"The accepted checkpoint is {record.checkpoint!r}, but {side.checkpoint!r} ran: its path holds something "
            "else by now. Nothing was accepted. Give the accepted one with --policy, its revision pinned."
        )
    return _begin_line(night, side, out, now, template, f"rebased from {record.ledger}")


def _begin_line(
    night: NightlyRequest, side: Side, out: str, now: datetime, template: str | None, note: str
) -> NightEnd:
    """Accept a night that has no base to be judged against, if it meets the absolute rules."""
    judged = judge_first_night(side, load_rules(night.rules))
    verdict = verdict_of(judged)
    reasons = " ".join(f"{one.rule}: {one.reason}" for one in judged if one.verdict is verdict)
    which = "rebased night" if note.startswith("rebased") else "first night"
    if verdict is Verdict.PASS:
        set_baseline(night.root, out, now, name=night.baseline, note=note)
        summary = f"{side.label}: the {which} is the baseline {night.baseline!r}. {reasons}"
    else:
        _write_text(out, f"{note}: not accepted as the baseline {night.baseline!r}. {reasons}\n")
        summary = f"{side.label}: the {which} is not accepted as baseline. {reasons}"
    fault = _tell(template, News(verdict.value, out, out, side.label, summary))
    return NightEnd(verdict.exit_code, None, (summary, *fault))


def require_known_protocol(
    night: NightlyRequest, suites: Sequence[str], nfe: int | None, manifests: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse a night whose protocol is not that of its baseline; asked before the night begins, and at its end.

    Args:
        night: What was asked for.
        suites: LIBERO suites of the night, sorted.
        nfe: NFE of its policy.
        manifests: LIBERO suite → protocol manifest that the night has, or is about to have.

    Raises:
        UsageError: Baselines of these suites and this NFE are all of other protocols; names every key that differs
            from the last one's, with both values, and what to do.
    """
    line = [
        one for one in read_baselines(night.root) if (one.name, one.suites, one.nfe) == (night.baseline, suites, nfe)
    ]
    tonight = {suite: manifests.get(suite, {}) for suite in suites}
    if not line or manifest_sha256(tonight) in [one.protocol for one in line]:
        return
    record = line[-1]
    (base, *_) = read_sides(record.path(Location.of(night.root).root), policy=record.policy_id, nfe=record.nfe)
    for suite in suites:
        try:
            require_equal_manifests(base.manifests.get(suite, {}), tonight[suite])
        except UsageError as error:
            raise UsageError(
                f"The protocol changed since the baseline {night.baseline!r} ({record.ledger}), suite {suite}. {error} "
                "Run this once with --rebase in place of --policy: the accepted checkpoint is run again under "
                "the new protocol, as the new baseline."
            ) from error


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

    return _write_text(out, render_gate_markdown(result))


def _write_text(out: str, text: str) -> str:
    location = Location.of(out)
    path = location.write_file(REPORT, text)
    return path if location.is_local else f"{out.rstrip('/')}/{REPORT}"


def _tell(template: str | None, news: News) -> tuple[str, ...]:
    fault = notify(template, news) if template is not None else None
    return () if fault is None else (f"The notification failed, which changes no verdict: {fault}",)
