"""`harness gate`: a verdict on a candidate, for people and for CI."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from harness.cli.examples import examples
from harness.cli.output import write_texts

EXAMPLES = examples(
    "harness gate reports/base reports/candidate",
    "harness gate reports/base reports/candidate --rules nightly --markdown pr.md --junit gate.xml",
    "harness gate s3://bucket/base reports/candidate --rules gates/mine.yaml --json gate.json",
)


def command(
    base: Annotated[str, typer.Argument(help="Ledger of what is in use.")],
    candidate: Annotated[str, typer.Argument(help="Ledger of what might replace it.")],
    rules: Annotated[
        str | None,
        typer.Option(help="YAML file, or name of shipped rules.", show_default="3 points, no collapsed task"),
    ] = None,
    base_policy: Annotated[str | None, typer.Option(help="Policy of the base, if it has several.")] = None,
    base_nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the base.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", "-p", help="Policy of the candidate.")] = None,
    nfe: Annotated[int | None, typer.Option(min=1, help="NFE of the candidate.")] = None,
    markdown: Annotated[str, typer.Option(help="Write Markdown to a file, or to standard output with '-'.")] = "",
    junit: Annotated[str, typer.Option(help="Write JUnit XML to a file, or to standard output with '-'.")] = "",
    json: Annotated[str, typer.Option(help="Write JSON to a file, or to standard output with '-'.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the latency bootstrap.")] = 0,
) -> None:
    """Judge a candidate by rules: PASS (exit code 0), FAIL (1) or INCONCLUSIVE (2), with a reason per rule.

    Success has to hold both with infrastructure errors left out and with them counted as failures; where the two
    disagree, or the data cannot tell, the verdict is INCONCLUSIVE.
    """
    from harness.analysis.compare import Choice
    from harness.gate import gate
    from harness.report.gate_json import render_json
    from harness.report.gate_junit import render_gate_junit
    from harness.report.gate_markdown import render_gate_markdown
    from harness.report.gate_terminal import print_gate
    from harness.spec.rules import load_rules

    result = gate(base, candidate, load_rules(rules), choice=Choice(base_policy, base_nfe, policy, nfe), seed=seed)
    print_gate(result, Console(stderr="-" in (markdown, junit, json)))
    write_texts(
        [
            (markdown, lambda: render_gate_markdown(result)),
            (junit, lambda: render_gate_junit(result, datetime.now(UTC))),
            (json, lambda: render_json(result)),
        ]
    )
    raise typer.Exit(result.verdict.exit_code)
