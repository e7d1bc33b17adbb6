"""Terminal and Markdown: the same numbers, readable without colour, safe in a pipe and in a pull request."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from harness.ledger import LedgerWriter, read
from harness.report import render_markdown, render_terminal
from harness.report.format import duration, number, percent
from harness.screen import Screen

BuildLedger = Callable[..., Path]


def printed(path: Path, *, terminal: bool = False, width: int = 80) -> str:
    stream = io.StringIO()
    render_terminal(read(path), Screen(Console(file=stream, force_terminal=terminal, width=width, color_system=None)))
    return stream.getvalue()


def test_a_pipe_gets_whole_lines_without_escape_codes_at_any_width(build_ledger: BuildLedger) -> None:
    text = printed(build_ledger(), width=40)
    assert "\x1b" not in text
    assert re.search(
        r"^0 +pick up the black bowl between the plate and the ramekin and place it on the plate +\d/2 \(", text, re.M
    )
    assert re.search(r"^scripted \(positive control\) +libero_spatial +20/20 +100 % +83\.2–100\.0 %", text, re.M)


def test_a_terminal_of_110_columns_shows_every_rate_unbroken(build_ledger: BuildLedger) -> None:
    text = printed(build_ledger(), terminal=True, width=110)
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "83.2–100.0 %" in text
    assert "0.0–16.8 %" in text


def test_latency_prefix_time_and_decisions_are_printed(build_ledger: BuildLedger) -> None:
    text = printed(build_ledger())
    for title in ("Latency, ms: flow on h100-sxm-80gb", "Prefix and denoise step", "Where the time went", "Decisions"):
        assert title in text


def test_episodes_that_two_nodes_ran_are_counted_with_how_many_went_another_way(build_ledger: BuildLedger) -> None:
    path = build_ledger()
    twice = {"policy_id": "scripted", "clock": "synchronous", "node_id": "n2", "counted_node_id": "n1"}
    LedgerWriter(path).append("duplicates", [{**twice, "equal": equal} for equal in (True, True, False)])
    assert "| scripted | n1 | n2 | 3 | 2 | 1 |" in render_markdown(read(path))


def test_one_launch_is_said_to_tell_of_one_process(build_ledger: BuildLedger) -> None:
    """Rows without a launch are of ledgers of before: one launch a run."""
    text = render_markdown(read(build_ledger()))
    latency, line = text.split("## Latency, ms")[1], text.split("## Prefix and denoise step")[1]
    assert "| 1: within one process |" in latency.split("\n## ")[0]
    assert "| 1: within one process |" in line.split("\n## ")[0]


@pytest.mark.parametrize("terminal", [False, True])
def test_markup_in_messages_is_printed_as_it_is(build_ledger: BuildLedger, terminal: bool) -> None:
    assert "[bold]x[/bold]" in printed(build_ledger(error_message="[bold]x[/bold]"), terminal=terminal, width=150)


def test_alarms_and_partial_runs_come_before_the_tables(build_ledger: BuildLedger) -> None:
    text = printed(build_ledger(scripted=0.5, status="interrupted"))
    assert text.index("broken, not the policy") < text.index("Partial results") < text.index("\nSuccess\n")


def test_markdown_rows_have_as_many_cells_as_their_headers(build_ledger: BuildLedger) -> None:
    path = build_ledger(error_message="a | b\nc <img src=x> [link](http://x) `code`")
    markdown = render_markdown(read(path))
    blocks = [block for block in markdown.split("\n\n") if block.startswith("| ")]
    assert len(blocks) > 8
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, block
    assert "<img" not in markdown
    assert r"a \| b c &lt;img src=x&gt; \[link\](http://x) \`code\`" in markdown


def test_markdown_and_terminal_show_the_same_success(build_ledger: BuildLedger) -> None:
    path = build_ledger()
    assert "| scripted (positive control) | libero\\_spatial | 20/20 | 100 % | 83.2–100.0 % |" in render_markdown(
        read(path)
    )


def test_a_ledger_of_a_node_without_telemetry_is_reported_without_warnings(build_ledger: BuildLedger) -> None:
    ledger = read(build_ledger())
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert render_markdown(ledger)


@pytest.mark.parametrize("tables", [("runs",), ("latency",), ("episodes",), ("nodes",)])
def test_a_ledger_with_one_table_is_reported(build_ledger: BuildLedger, tables: tuple[str, ...]) -> None:
    path = build_ledger(tables=tables)
    assert printed(path)
    assert render_markdown(read(path))


def test_thousands_of_different_errors_are_cut_and_counted(tmp_path: Path) -> None:
    base = {"policy_id": "p", "suite": "s", "task_id": 0, "task": "t", "outcome": "error", "error_type": "PolicyError"}
    rows = [base | {"episode_key": str(i), "error_message": f"action[0] is {i}"} for i in range(100)]
    LedgerWriter(tmp_path).append("episodes", rows)
    text = printed(tmp_path)
    assert text.count("PolicyError") == 40
    assert "60 further messages (60 episodes)" in text


def test_a_policy_that_only_made_errors_has_no_rate(tmp_path: Path) -> None:
    row = {"policy_id": "p", "suite": "s", "task_id": 0, "task": "t", "episode_key": "k", "outcome": "error"}
    LedgerWriter(tmp_path).append("episodes", [row])
    assert re.search(r"^p +s +0/0 +– +– +0 +1 ", printed(tmp_path), re.M)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.005, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (123.4, "123"),
        (12345, "12,345"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, written: str) -> None:
    assert number(value) == written


def test_what_is_not_known_is_a_dash() -> None:
    assert {number(None), number(float("nan")), percent(None), duration(float("nan"))} == {"–"}


@pytest.mark.parametrize(
    ("seconds", "written"), [(0.4123, "0.412 s"), (99.9, "99.9 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations_are_written_for_people(seconds: float, written: str) -> None:
    assert duration(seconds) == written
