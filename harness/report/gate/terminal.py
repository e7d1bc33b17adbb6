"""Comparisons and gates on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from harness.analysis.paired.compare import Comparison
from harness.analysis.paired.matrix import Matrix
from harness.gate.gate import GateResult
from harness.gate.verdict import Verdict
from harness.report.gate.tables import comparison_tables, matrix_pairs_table, matrix_table, rule_table
from harness.report.tables.table import Table
from harness.report.terminal import print_table

_STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}


def print_gate(result: GateResult, console: Console) -> None:
    """Print a gate: the comparison, the rules, and the verdict last, where the eye ends up."""
    _print(comparison_tables(result.comparison), console)
    _print([rule_table(result)], console)
    style = _STYLES[result.verdict]
    console.print(f"\n[{style}]{result.verdict.value}[/{style}]: {escape(result.rules.name)}", highlight=False)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison."""
    _print(comparison_tables(comparison), console)


def print_matrix(matrix: Matrix, console: Console) -> None:
    """Print several checkpoints."""
    _print([matrix_table(matrix), matrix_pairs_table(matrix)], console)


def _print(tables: list[Table], console: Console) -> None:
    for table in tables:
        print_table(table, console)
