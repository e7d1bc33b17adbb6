"""A comparison or a gate as the page of its two ledgers: the verdict first, flips with both videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis.paired.compare import Comparison
from harness.analysis.summary import Summary
from harness.gate.judge import GateResult
from harness.ledger import open_ledger
from harness.ledger.side_by_side import side_by_side
from harness.report.answers import AnswerLine, Mark, worst_lines
from harness.report.gate.answers import comparison_lines
from harness.report.gate.tables import latency_rows, success_rows, task_rows, time_rows
from harness.report.html import render_page, write_page
from harness.report.names import variant_names
from harness.report.tables.table import Table


def write_comparison_html(found: Comparison, path: str | Path, *, command: str, embed: int | None = None) -> str | Path:
    """Write the page of a comparison.

    Args:
        found: From `harness.compare`.
        path: File, or URI of one.
        command: The command that makes this page again.
        embed: See `harness.report.html.write_page`.
    """
    return _write(found, path, command, embed, {"title": "The answer", "verdict": "", "answers": []})


def write_gate_html(result: GateResult, path: str | Path, *, command: str, embed: int | None = None) -> str | Path:
    """Write the page of a gate: verdict and reasons, then the comparison behind them."""
    top = {
        "title": f"Gate {result.rules.name}:",
        "verdict": result.verdict.value,
        "answers": [
            AnswerLine(_MARKS.get(rule.shown, "open"), f"{rule.rule}: {rule.shown}.", rule.reason)
            for rule in result.results
        ],
    }
    return _write(result.comparison, path, command, embed, top)


_MARKS: dict[str, Mark] = {"PASS": "yes", "FAIL": "no"}


def _write(found: Comparison, path: str | Path, command: str, embed: int | None, top: dict[str, Any]) -> str | Path:
    sides = (
        {(one.base.policy_id, one.base.nfe) for one in found.success},
        {(one.candidate.policy_id, one.candidate.nfe) for one in found.success},
    )
    summary = Summary(side_by_side(open_ledger(found.base), open_ledger(found.candidate), sides))
    judged = top | {
        "sentence": f"{found.candidate} (candidate) against {found.base} (base). {' '.join(found.notices)}".strip(),
        "answers": [*top["answers"], *comparison_lines(found), *worst_lines(summary, variant_names(summary))],
        "tables": _tables(found),
    }
    return write_page(
        path, summary, lambda films: render_page(summary, command=command, films=films, judged=judged), embed
    )


def _tables(found: Comparison) -> list[Table]:
    """What stands behind the answer; the page's list of episodes holds every flip."""
    own = [table for one in found.success for table in (success_rows(one), task_rows(one), time_rows(one))]
    return [table for table in (*own, latency_rows(found.latency)) if table.rows]
