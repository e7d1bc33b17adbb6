"""What people and CI read of a gate: Markdown, JUnit, JSON, terminal, exit codes."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import fromstring

import pytest
from rich.console import Console

from harness.analysis.paired.compare import compare
from harness.cli.app import invoke
from harness.gate import GateResult, gate
from harness.ledger.writer import LedgerWriter
from harness.report.gate.json import render_json
from harness.report.gate.junit import render_gate_junit
from harness.report.gate.markdown import render_comparison_markdown, render_gate_markdown
from harness.report.gate.tables import more_flips
from harness.report.gate.terminal import print_gate
from harness.screen import Screen
from harness.spec.rules import GateRules, LatencyRule, SuccessRule, TaskRule

RULES = GateRules(
    name="night", success=SuccessRule(margin=0.03), per_task=TaskRule(cliff=0.3), latency=(LatencyRule(max_ratio=1.1),)
)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def failed(make_ledger: Any) -> GateResult:
    base, new = make_ledger("base", ["+" * 50] * 10), make_ledger("new", ["+" * 47 + "---"] * 10)
    return gate(base, new, RULES)


def test_markdown_begins_with_the_verdict_and_links_the_videos_of_flips(failed: GateResult) -> None:
    text = render_gate_markdown(failed)
    assert text.startswith("# ❌ FAIL: night")
    assert "| success | FAIL |" in text
    assert f"[candidate](<{failed.comparison.candidate}/videos/0-47.mp4>)" in text
    assert "Lost: 30 episodes" in text
    assert "and 10 more" in text
    assert "margin: 0.03" in text


def test_names_cannot_break_out_of_the_markdown(make_ledger: Any) -> None:
    paths = [make_ledger(name, ["+-"], policy="<img src=x>|evil", task="a|b\n# <script>") for name in ("base", "new")]
    text = render_comparison_markdown(compare(*paths))
    assert "<script" not in text
    assert "<img" not in text
    assert "\n# &lt;" not in text
    assert "a\\|b" in text


def test_junit_shows_one_case_per_rule_and_no_doubt_as_a_pass(failed: GateResult) -> None:
    suite = ElementTree.fromstring(render_gate_junit(failed, NOW)).find("testsuite")  # noqa: S314 - our own output
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "1")
    cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {
        "pairs": ["system-out"],
        "success": ["failure"],
        "per-task cliff": ["system-out"],
        "latency e2e p50": ["error"],
    }


def test_json_is_strict_and_holds_every_figure(failed: GateResult) -> None:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    data = json.loads(render_json(failed), parse_constant=refuse)
    assert data["verdict"] == "FAIL"
    (success,) = data["comparison"]["success"]
    assert success["overall"]["counts"] == {"both": 470, "lost": 30, "gained": 0, "neither": 0}
    assert len(success["flips"]) == 30
    assert success["overall"]["difference"] == pytest.approx(-0.06)


def test_json_of_an_empty_comparison_has_nulls_and_no_nan(make_ledger: Any) -> None:
    found = compare(make_ledger("base", {0: "+"}), make_ledger("new", {1: "+"}))
    assert json.loads(render_json(found))["success"][0]["overall"]["difference"] is None


def test_the_terminal_ends_with_the_verdict(failed: GateResult) -> None:
    stream = io.StringIO()
    print_gate(failed, Screen(Console(file=stream, width=100)))
    lines = stream.getvalue().rstrip().splitlines()
    assert lines[-1] == "FAIL: night"
    assert any(line.startswith("success") and "FAIL" in line for line in lines)


@pytest.mark.parametrize(
    ("new", "code"), [("+" * 500, 0), ("+" * 450 + "-" * 50, 1), ("+" * 497 + "---", 0), ("+" * 30, 2)]
)
def test_exit_codes_are_pass_0_fail_1_inconclusive_2(make_ledger: Any, new: str, code: int) -> None:
    base, candidate = make_ledger("base", ["+" * 500]), make_ledger("new", [new])
    assert invoke(["gate", str(base), str(candidate)]) == code


def test_the_command_writes_every_format(make_ledger: Any, tmp_path: Path) -> None:
    base, new = make_ledger("base", ["+" * 500]), make_ledger("new", ["+" * 500])
    outputs = [tmp_path / "out" / name for name in ("gate.md", "gate.xml", "gate.json")]
    options = [
        part
        for flag, path in zip(("--markdown", "--junit", "--json"), outputs, strict=True)
        for part in (flag, str(path))
    ]
    assert invoke(["gate", str(base), str(new), *options]) == 0
    assert "PASS" in outputs[0].read_text()
    assert ElementTree.parse(outputs[1]).getroot().tag == "testsuites"  # noqa: S314 - our own output
    assert json.loads(outputs[2].read_text())["verdict"] == "PASS"


def test_json_on_standard_output_is_nothing_but_json(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = make_ledger("base", ["++"]), make_ledger("new", ["+-"])
    assert invoke(["compare", str(base), str(new), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["success"][0]["overall"]["counts"]["lost"] == 1


def test_a_list_of_flips_that_is_cut_says_how_to_have_all(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    base, candidate = (str(make_ledger(name, [letter * 33])) for name, letter in (("a", "+"), ("b", "-")))
    assert invoke(["compare", base, candidate]) == 0
    assert "13 more; --json FILE lists all of them." in capsys.readouterr().out
    assert invoke(["compare", base, candidate, "--markdown", "-"]) == 0
    assert "… and 13 more; --json FILE lists all of them." in capsys.readouterr().out
    assert more_flips(1500, 1000) == "1,480 more; --json FILE lists 1,000 of them."


def test_a_mistyped_policy_is_answered_with_the_nearest(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    base, candidate = (str(make_ledger(name, ["++"], policy="flow")) for name in "ab")
    for option in ("--base-policy", "--policy"):
        assert invoke(["compare", base, candidate, option, "flw"]) == 64
        assert "has no episodes of flw. Did you mean 'flow'? It has: flow" in capsys.readouterr().err


def test_three_ledgers_make_a_matrix(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(make_ledger(name, ["+" * 20], policy=name)) for name in ("a", "b", "c")]
    assert invoke(["compare", *paths]) == 0
    assert "share a letter cannot be told apart" in capsys.readouterr().out


def test_a_matrix_says_what_two_ledgers_say(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(make_ledger(name, {task: "++"}, policy=name)) for task, name in enumerate("abc")]
    assert invoke(["compare", *paths]) == 2
    assert "no pairs: " in capsys.readouterr().err
    again = str(make_ledger("d", {0: "++"}, policy="a"))
    machines = (("a", "avx2"), ("d", "avx512"))
    for name, isa in machines:
        node = {"run_id": f"run-{name}", "node_id": name, "isa": isa}
        LedgerWriter(paths[0] if name == "a" else again).append("nodes", [node])
    assert invoke(["compare", paths[0], again, paths[1]]) == 0
    said = capsys.readouterr()
    assert "avx2 against avx512" in said.out
    assert "no pairs: " in said.err


def test_usage_errors_name_the_problem_and_exit_64(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    base = str(make_ledger("base", ["++"]))
    other = {"suite": "libero_spatial", "max_steps": 220}
    new = str(make_ledger("new", ["++"], manifest=other))
    assert invoke(["gate", base, new]) == 64
    assert "max_steps: 280 against 220" in capsys.readouterr().err
    assert invoke(["compare", base]) == 64
    assert invoke(["compare", base, base, "--json", "-", "--markdown", "-"]) == 64
    assert invoke(["gate", base, base, "--rules", "nightlyy"]) == 64
    assert "nightly" in capsys.readouterr().err


def test_a_damaged_ledger_is_no_verdict(make_ledger: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, candidate = make_ledger("base", ["+" * 5]), make_ledger("candidate", ["+" * 5])
    part = next((candidate / "episodes").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:200])
    junit = tmp_path / "gate.xml"
    assert invoke(["gate", str(base), str(candidate), "--junit", str(junit)]) == 3
    suite = fromstring(junit.read_text()).find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    assert suite.find("testcase/error") is not None
    assert str(part.name) in capsys.readouterr().err


def test_junit_holds_no_character_that_xml_cannot(make_ledger: Any, tmp_path: Path) -> None:
    base = str(make_ledger("base", ["+" * 5]))
    rules, junit = tmp_path / "rules.yaml", tmp_path / "gate.xml"
    rules.write_text('name: "n\\x1bx\\x00y"\nsuccess: {margin: 0.1}\n')
    invoke(["gate", base, base, "--rules", str(rules), "--junit", str(junit)])
    root = fromstring(junit.read_text())  # noqa: S314 - our own
    assert "n\ufffdx\ufffdy" in str(root[0].get("name"))
