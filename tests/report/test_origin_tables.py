"""Where policies came from, in every rendering; and the naive single step called by its name."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from harness.ledger import LedgerWriter, read
from harness.report import render_terminal
from harness.report.html import render_html
from harness.report.markdown import render_markdown
from harness.screen import Screen

RECORD = {
    "flow": {
        "default_nfe": 10,
        "provenance": {"asked": "lerobot/pi05_libero_finetuned", "served": "lerobot/pi05_libero_finetuned_v044"},
        "warnings": ["Asked for one repository; the hub served another."],
        "serving": {"max_batch": 16, "max_wait_ms": 2.5, "why": "measured", "measured_ms": {"1": 25.0, "16": 101.5}},
    },
    "noop": {"default_nfe": None},
}


@pytest.fixture
def ledger(build_ledger):
    path = build_ledger()
    (run,) = read(path).runs.to_dict("records")
    LedgerWriter(path).append("runs", [{**run, "policies": json.dumps(RECORD)}])
    return read(path)


def terminal(ledger) -> str:
    console = Console(file=StringIO(), width=200)
    render_terminal(ledger, Screen(console))
    return console.file.getvalue()


@pytest.mark.parametrize("render", [terminal, render_markdown, lambda ledger: render_html(ledger, command="harness")])
def test_every_rendering_names_the_naive_single_step_and_warns(ledger, render):
    page = render(ledger)
    assert "NFE 1, naive 1-step" in page
    assert "NFE 10, naive" not in page
    assert "About flow" in page
    assert "the hub served another" in page


@pytest.mark.parametrize("render", [render_markdown, lambda ledger: render_html(ledger, command="harness")])
def test_written_reports_say_where_policies_came_from_and_how_they_were_batched(ledger, render):
    page = render(ledger).replace("\\_", "_")
    assert "Origin of policies" in page
    assert "lerobot/pi05_libero_finetuned_v044" in page
    assert "1: 25.0, 16: 102" in page


def test_a_ledger_that_records_nothing_calls_nothing_naive(build_ledger):
    page = render_markdown(read(build_ledger()))
    assert "naive" not in page
    assert "Origin of policies" not in page
