"""Comparisons and gates on a terminal."""

from __future__ import annotations

from harness.analysis.paired.compare import Comparison
from harness.analysis.paired.matrix import Matrix
from harness.gate.judge import GateResult
from harness.gate.verdict import Verdict
from harness.report.gate.answers import comparison_verdict, gate_reasons, matrix_verdict
from harness.report.gate.tables import comparison_tables, matrix_pairs_table, matrix_table, rule_table
from harness.report.tables.table import Table
from harness.report.terminal import print_table
from harness.screen import Screen

_STYLES = {Verdict.PASS: "bold green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}


def print_gate(result: GateResult, screen: Screen) -> None:
    """Print a gate: verdict and reasons, the comparison, the rules, and the verdict again, where the eye ends up."""
    style = _STYLES[result.verdict]
    screen.say((result.verdict.value, style), f": {result.rules.name}: {gate_reasons(result)}", prose=True)
    _print_notices(result.comparison, screen)
    _print(comparison_tables(result.comparison), screen)
    _print([rule_table(result)], screen)
    screen.say("\n", (result.verdict.value, style), f": {result.rules.name}")


def print_comparison(comparison: Comparison, screen: Screen) -> None:
    """Print a comparison, its answer first."""
    screen.say((comparison_verdict(comparison), "bold"), prose=True)
    _print_notices(comparison, screen)
    _print(comparison_tables(comparison), screen)


def print_matrix(matrix: Matrix, screen: Screen) -> None:
    """Print several checkpoints, the best first."""
    screen.say((matrix_verdict(matrix), "bold"), prose=True)
    _print_notices(matrix, screen)
    _print([matrix_table(matrix), matrix_pairs_table(matrix)], screen)


def _print_notices(comparison: Comparison | Matrix, screen: Screen) -> None:
    for notice in comparison.notices:
        screen.say(f"note: {notice}")


def _print(tables: list[Table], screen: Screen) -> None:
    for table in tables:
        print_table(table, screen)
