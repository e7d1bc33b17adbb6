"""A comparison or a gate as the page of its two ledgers: the verdict first, flips with both videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis.paired.compare import Comparison, SuccessComparison
from harness.analysis.paired.power import pairs_needed
from harness.analysis.summary import Summary
from harness.gate.judge import GateResult
from harness.ledger import open_ledger
from harness.ledger.side_by_side import side_by_side
from harness.report.answers import AnswerLine, Mark, worst_lines
from harness.report.format import count, number, points, probability
from harness.report.gate.tables import latency_rows, success_rows, task_rows, time_rows
from harness.report.html import render_page, write_page
from harness.report.names import variant_names
from harness.report.tables.table import Table

ALPHA = 0.05
"""Two-sided level at which a pair is called decided."""

MAX_LATENCY = 8
"""Ratios of latency above the tables, which have all."""


def write_comparison_html(found: Comparison, path: str | Path, *, command: str) -> str | Path:
    """Write the page of a comparison.

    Args:
        found: From `harness.compare`.
        path: File, or URI of one.
        command: The command that makes this page again.
    """
    return _write(found, path, command, {"title": "The answer", "verdict": "", "answers": []})


def write_gate_html(result: GateResult, path: str | Path, *, command: str) -> str | Path:
    """Write the page of a gate: verdict and reasons, then the comparison behind them."""
    top = {
        "title": f"Gate {result.rules.name}:",
        "verdict": result.verdict.value,
        "answers": [
            AnswerLine(_MARKS.get(rule.shown, "open"), f"{rule.rule}: {rule.shown}.", rule.reason)
            for rule in result.results
        ],
    }
    return _write(result.comparison, path, command, top)


_MARKS: dict[str, Mark] = {"PASS": "yes", "FAIL": "no"}


def _write(found: Comparison, path: str | Path, command: str, top: dict[str, Any]) -> str | Path:
    sides = (
        {(one.base.policy_id, one.base.nfe) for one in found.success},
        {(one.candidate.policy_id, one.candidate.nfe) for one in found.success},
    )
    summary = Summary(side_by_side(open_ledger(found.base), open_ledger(found.candidate), sides))
    judged = top | {
        "sentence": f"{found.candidate} (candidate) against {found.base} (base). {' '.join(found.notices)}".strip(),
        "answers": [*top["answers"], *_answers(found), *worst_lines(summary, variant_names(summary))],
        "tables": _tables(found),
    }
    return write_page(path, lambda directory: render_page(summary, command=command, directory=directory, judged=judged))


def _tables(found: Comparison) -> list[Table]:
    """What stands behind the answer; the page's list of episodes holds every flip."""
    own = [table for one in found.success for table in (success_rows(one), task_rows(one), time_rows(one))]
    return [table for table in (*own, latency_rows(found.latency)) if table.rows]


def _answers(found: Comparison) -> list[AnswerLine]:
    latency = [one for one in found.latency if one.candidate.component == "e2e"]
    lines = [_success(one) for one in found.success]
    for one in latency[:MAX_LATENCY]:
        ratio, where = one.median, f"{one.candidate.hardware}, NFE {count(one.candidate.nfe)}"
        interval = ratio.interval
        told = f" (95 % interval {number(interval.low)}–{number(interval.high)})" if interval else ""
        sure = interval is not None and not interval.low <= 1 <= interval.high
        better = "candidate" if ratio.ratio < 1 else "base"
        lines.append(
            AnswerLine(
                "yes" if sure else "open",
                f"The {better} decides faster on {where}." if sure else f"Latency on {where} is not decided.",
                f"Median {number(ratio.base)} → {number(ratio.candidate)} ms, candidate / base {number(ratio.ratio)}"
                f"{told}{', within one process a side' if ratio.within else ''}.",
            )
        )
    return lines


def _success(one: SuccessComparison) -> AnswerLine:
    group = one.overall
    counts, (low, high) = group.counts, group.difference
    if not counts.n:
        return AnswerLine("open", f"{one.base.label} and {one.candidate.label} have no pair of episodes.", "")
    seen = (
        f"{one.base.label} → {one.candidate.label}: {points(counts.difference)} points of success (95 % interval "
        f"{points(low)} … {points(high)}) over {count(counts.n)} pairs; {count(counts.lost)} lost, "
        f"{count(counts.gained)} gained; exact McNemar p {probability(group.p)}."
    )
    if group.p < ALPHA:
        better = "candidate" if counts.difference > 0 else "base"
        return AnswerLine("yes", f"The {better} succeeds more often.", seen)
    asked = max(abs(counts.difference), 0.03)
    needed = pairs_needed(asked, max(counts.discordance, 0.01), sides=2)
    told = f"about {count(needed)} pairs" if needed else "more pairs than can be counted"
    return AnswerLine(
        "open", "Which one succeeds more often is not decided.", f"{seen} {100 * asked:.1f} points would take {told}."
    )
