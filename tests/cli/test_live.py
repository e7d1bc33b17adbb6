"""What a run that goes on shows, on a terminal and in a log."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rich.console import Console

from harness.cli.live import LINE_EVERY_S, ProgressDisplay, line, panel
from harness.schedule.progress import PolicyProgress, Progress
from harness.screen import SAID, Screen
from harness.spec.policy import PolicyAtNfe

HALF = Progress(
    planned=100,
    skipped=10,
    done=40,
    successes=30,
    errors=2,
    per_policy={PolicyAtNfe("pi", 10): PolicyProgress(100, 40, 30, 2)},
    workers=4,
    started=datetime(2026, 3, 1, tzinfo=UTC),
    elapsed_s=3600.0,
    rate=40 / 3600,
    eta_s=4500.0,
    eta_band_s=(3900.0, 5200.0),
    limit=("policy", 0.62),
)


def shown(progress: Progress) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120).print(panel(progress))
    return stream.getvalue()


@pytest.mark.parametrize("render", [line, shown])
def test_it_says_how_far_how_good_how_fast_how_long_and_why(render) -> None:  # type: ignore[no-untyped-def]
    said = render(HALF)
    for part in (
        "50/100",
        "30/38 = 79 % [63–90]",
        "40 episodes/h",
        "1 h 15 min left (90 %: 1 h 05 min to 1 h 26 min)",
        "limited by waiting for the policy (62 % of the workers' time)",
        "2 errors",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workers": 0, "limit": None}, "no worker has begun"),
        ({"done": 88}, "the last 2 episodes: other workers are idle"),
        ({"limit": ("rendering", 0.5)}, "limited by rendering (50 %"),
    ],
)
def test_what_limits_a_run_is_named(change: dict[str, object], said: str) -> None:
    assert said in line(replace(HALF, **change))  # type: ignore[arg-type]


def test_a_log_gets_a_line_every_so_often_beside_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    now, stream = [0.0], io.StringIO()
    said = logging.getLogger(SAID)
    said.addHandler(caplog.handler)
    said.setLevel(logging.INFO)
    try:
        screen = Screen(Console(file=stream, force_terminal=True, width=120))
        with ProgressDisplay(screen, clock=lambda: now[0]) as display:
            for done in range(40, 60):
                display(replace(HALF, done=done))
                now[0] += LINE_EVERY_S / 4
    finally:
        said.removeHandler(caplog.handler)
        said.setLevel(logging.NOTSET)
    lines = [record.getMessage() for record in caplog.records if "episodes/h" in record.getMessage()]
    assert len(set(lines)) == 5
    assert "limited by waiting for the policy" in stream.getvalue()
