"""A verdict in the first line, and nothing cut, at the widths of terminals and in a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import invoke
from harness.doctor import Check, CheckStatus

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
PROBE = str(EXAMPLES / "h100-latency" / "pi05")
COMMANDS = {
    "report": ["report", "BETTER"],
    "compare": ["compare", "WORSE", "BETTER"],
    "matrix": ["compare", "WORSE", "BETTER", "EQUAL"],
    "gate": ["gate", "BETTER", "WORSE"],
    "prefix": ["prefix", PROBE],
    "doctor": ["doctor"],
    "list": ["list", "suites"],
}
FIRST = {
    "report": "pi solves 100 % of libero_spatial.",
    "compare": "The candidate succeeds more often. pi → pi: +20.0 points of success",
    "matrix": "Best: pi (",
    "gate": "FAIL: default: success: ",
    "prefix": "What limits a decision: vision: ",
    "doctor": "Not ready: 1 of 2 checks fail: mujoco.",
}


@pytest.fixture
def say(make_ledger: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command of `COMMANDS` prints, at a width or piped."""
    ledgers = {
        "BETTER": make_ledger("better", ["+" * 50] * 4),
        "WORSE": make_ledger("worse", ["+" * 40 + "-" * 10] * 4),
        "EQUAL": make_ledger("equal", ["+" * 50] * 4),
    }
    checks = [
        Check("mujoco", CheckStatus.FAIL, "3.9.1: " + "its box-box collisions break a task, " * 3, "pip install it"),
        Check("python", CheckStatus.OK, "3.12"),
    ]
    monkeypatch.setattr("harness.doctor.run_checks", lambda _: checks)

    def said(command: str, width: int | None) -> str:
        monkeypatch.delenv("COLUMNS", raising=False)
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
        invoke([str(ledgers.get(word, word)) for word in COMMANDS[command]])
        return capsys.readouterr().out

    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(say: Any, command: str) -> None:
    figures = {word for word in say(command, None).split() if word[0].isdigit() and word.endswith("%")}
    for width in (60, 80, 120):
        shown = say(command, width)
        wide = [line for line in shown.splitlines() if len(line) > width]
        assert not [line for line in wide if max(map(len, line.split())) < width / 2], "a path is not broken"
        assert figures <= set(shown.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_gets_plain_whole_lines(say: Any, command: str) -> None:
    shown = say(command, None)
    assert "\x1b" not in shown
    assert not any(line.endswith("…") for line in shown.splitlines())
    assert "…  " not in shown


@pytest.mark.parametrize("command", FIRST)
def test_the_first_line_is_the_verdict(say: Any, command: str) -> None:
    assert say(command, None).splitlines()[0].startswith(FIRST[command])


def test_what_to_do_is_a_line_that_can_be_copied(say: Any) -> None:
    assert "  mujoco: pip install it" in say("doctor", 60).splitlines()
