"""`harness gate --attribute`: reruns of the flipped episodes."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.screen import Screen
from harness.time_source import WallTime

if TYPE_CHECKING:
    from harness.gate import GateResult
    from harness.gate.rerun import Recipe


def run_attribution(
    result: GateResult, out: str | None, *, workers: int | None, address: str | None, screen: Screen
) -> str:
    """Attribute the flips of every variant that a failed gate compared.

    Returns:
        Markdown for the gate's report; empty when the gate did not fail.
    """
    from harness.gate import Verdict
    from harness.gate.rerun import attribute_flips
    from harness.report.gate.tables import attribution_table
    from harness.report.markdown import table_markdown
    from harness.report.terminal import print_table

    if result.verdict is not Verdict.FAIL:
        screen.say(f"Nothing to attribute: the verdict is {result.verdict.value}.")
        return ""
    target = out or f"reports/attribution-{WallTime().now():%Y%m%d-%H%M%S}"

    def say(text: str) -> None:
        screen.say(text)

    def run_cell(recipe: Recipe, ledger: str, keys: Collection[str]) -> None:
        _run_cell(recipe, ledger, keys, workers, address)

    blocks = []
    for place, success in enumerate(result.comparison.success):
        folder = target if len(result.comparison.success) == 1 else f"{target}/{place}"
        plan, found = attribute_flips(success, folder, run_cell, say=say)
        table = attribution_table(plan, found)
        print_table(table, screen)
        blocks.append(table_markdown(table))
    say(f"Reruns: {target}")
    return "\n" + "\n\n".join(blocks) + "\n"


def _run_cell(recipe: Recipe, ledger: str, keys: Collection[str], workers: int | None, address: str | None) -> None:
    from harness.evaluation import run
    from harness.spec.changes import SuiteChanges

    # Reruns answer one question: no videos, no probes.
    suite = SuiteChanges(video="none", probe="dropped").apply(recipe.suite)
    result = run(
        suite,
        policies=[recipe.spec],
        nfe=[recipe.nfe] if recipe.nfe is not None else None,
        out=ledger,
        workers=workers,
        address=address,
        only=keys,
    )
    if result.interrupted:
        raise UsageError(
            f"Interrupted: {result.done} of {result.planned} episodes are in {ledger}. Name another --out."
        )
