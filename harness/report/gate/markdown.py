"""Comparisons and gates as Markdown, for a pull request."""

from __future__ import annotations

from urllib.parse import quote

import yaml

from harness.analysis.paired.compare import Comparison, Direction, ListedPair, SuccessComparison
from harness.analysis.paired.matrix import Matrix
from harness.gate.judge import GateResult
from harness.gate.verdict import Verdict
from harness.report.format import NONE, count, text
from harness.report.gate.tables import (
    MAX_LISTED,
    TITLES,
    latency_rows,
    listed_pairs,
    matrix_pairs_table,
    matrix_table,
    more_flips,
    overlap_text,
    rule_table,
    success_rows,
    task_rows,
    time_rows,
)
from harness.report.markdown import escape_markdown, table_markdown

_MARKS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCONCLUSIVE: "⚠️"}


def render_gate_markdown(result: GateResult) -> str:
    """Render a gate: the verdict first, the reasons next, what is behind them folded away."""
    rules = result.rules
    blocks = [
        f"# {_MARKS[result.verdict]} {result.verdict.value}: {escape_markdown(rules.name)}",
        f"`{result.comparison.candidate}` against `{result.comparison.base}`. {escape_markdown(rules.description)}",
        table_markdown(rule_table(result)),
        *_comparison_blocks(result.comparison),
        _folded(
            "Rules", f"```yaml\n{yaml.safe_dump(rules.model_dump(mode='json', exclude_none=True), sort_keys=False)}```"
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def render_comparison_markdown(comparison: Comparison) -> str:
    """Render a comparison."""
    head = f"# Comparison\n\n`{comparison.candidate}` against `{comparison.base}`."
    return "\n\n".join([head, *_comparison_blocks(comparison)]) + "\n"


def render_matrix_markdown(matrix: Matrix) -> str:
    """Render several checkpoints."""
    notices = [f"> {escape_markdown(notice)}" for notice in matrix.notices]
    tables = map(table_markdown, (matrix_table(matrix), matrix_pairs_table(matrix)))
    return "\n\n".join(["# Checkpoints", *notices, *tables]) + "\n"


def _comparison_blocks(comparison: Comparison) -> list[str]:
    blocks = [f"> {escape_markdown(notice)}" for notice in comparison.notices]
    for success in comparison.success:
        blocks.append(table_markdown(success_rows(success)))
        if success.tasks:
            blocks.append(_folded("Tasks", table_markdown(task_rows(success))))
        blocks += [_listed(success, direction) for direction in TITLES]
        if (times := time_rows(success)).rows:
            blocks.append(_folded("Wall time", table_markdown(times)))
        blocks.append(_provenance(success))
    if comparison.latency:
        blocks.append(table_markdown(latency_rows(comparison.latency)))
    return [block for block in blocks if block]


def _listed(success: SuccessComparison, direction: Direction) -> str:
    listed, total = listed_pairs(success, direction)
    if not listed:
        return ""
    lines = [f"- {_flip(flip)}" for flip in listed[:MAX_LISTED]]
    if more := more_flips(total, len(listed)):
        lines.append(f"- … and {more}")
    told = overlap_text(success, direction)
    return _folded(
        f"{TITLES[direction]}: {count(total)} episodes", "\n".join([*([f"{told}\n"] if told else []), *lines])
    )


def _flip(flip: ListedPair) -> str:
    place = f"{text(flip.suite)} {text(flip.task_id)}"
    videos = [
        f"[{name}](<{quote(path, safe='/:')}>)"
        for name, path in (("base", flip.base_video), ("candidate", flip.candidate_video))
        if path
    ]
    where = f"{place}, init state {text(flip.init_state_id)}, trial {text(flip.trial)}: {text(flip.task)}"
    return escape_markdown(where) + (f" – {', '.join(videos)}" if videos else "")


def _provenance(success: SuccessComparison) -> str:
    rows = [
        f"| {name} | {escape_markdown(side.label)} | {escape_markdown(side.checkpoint or NONE)} "
        f"| {escape_markdown(', '.join(side.hardware) or NONE)} | {count(side.n)} |"
        for name, side in (("base", success.base), ("candidate", success.candidate))
    ]
    head = "| | Policy | Checkpoint | Hardware | Episodes |\n| :--- | :--- | :--- | :--- | ---: |"
    return _folded("Checkpoints", "\n".join([head, *rows]))


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
