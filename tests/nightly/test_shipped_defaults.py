"""`harness nightly` as it is shipped: its suite, its rules and its command together, on nights of that suite's shape.

The shares that `docs/results.md` states are of hundreds of nights (tests/benchmarks/bench_nightly.py); here are a few.
"""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from synthetic_nights import Nights

from harness.cli.app import invoke
from harness.cli.nightly import command
from harness.gate import gate
from harness.gate.verdict import Verdict
from harness.nightly.night import NightlyRequest, conclude_night
from harness.spec.rules import load_rules
from harness.spec.suite import Suite, load_suite

NOW = datetime(2026, 3, 2, 2, 17, tzinfo=UTC)
DEFAULTS = {name: one.default for name, one in inspect.signature(command).parameters.items()}
REPEATS = 4


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path, load_suite(DEFAULTS["suite"]), np.random.default_rng(20261127))


def judged(tmp_path: Path, seed: int, **night: Any) -> dict[str, Any]:
    """Rule → result of one night against the first, of everything the command has as default."""
    drawn = Nights(tmp_path / str(seed), load_suite(DEFAULTS["suite"]), np.random.default_rng([20261127, seed]))
    first = drawn.write("first", launch_sd=night.get("launch_sd", 0.01))
    result = gate(first, drawn.write("second", **night), load_rules(DEFAULTS["rules"]))
    return {"gate": result.verdict} | {one.rule: one for one in result.results}


def test_the_shipped_suite_probes_as_much_as_the_shipped_rules_ask(nights: Nights) -> None:
    assert len(nights.plan) == 400
    probe = nights.suite.probe
    assert probe is not None
    assert (probe.launches, probe.budget.min_samples) == (5, 100), "what five launches and a p99 need"


def test_the_first_night_is_accepted_and_an_equal_one_passes(nights: Nights) -> None:
    request = NightlyRequest(
        str(nights.root), DEFAULTS["suite"], DEFAULTS["rules"], DEFAULTS["baseline"], accept=DEFAULTS["accept"]
    )
    assert conclude_night(request, str(nights.write("20260301-021700")), NOW, None).exit_code == 0
    end = conclude_night(request, str(nights.write("20260302-021700", flips=0.01)), NOW, None)
    assert (end.exit_code, end.gate.verdict if end.gate else None) == (0, Verdict.PASS)


@pytest.mark.parametrize(
    ("night", "verdict"),
    [
        ({}, Verdict.PASS),
        ({"flips": 0.01}, Verdict.PASS),
        ({"drop": 0.08, "flips": 0.1}, Verdict.FAIL),
        ({"slower": 1.25}, Verdict.FAIL),
    ],
)
def test_equal_nights_pass_and_planted_faults_fail(tmp_path: Path, night: dict[str, float], verdict: Verdict) -> None:
    found = [judged(tmp_path, seed, **night)["gate"] for seed in range(REPEATS)]
    assert found == [verdict] * REPEATS


def test_what_launches_leave_open_says_how_many_would_decide(tmp_path: Path) -> None:
    rules = [judged(tmp_path, seed, launch_sd=0.04, slower=1.1)["latency e2e p50"] for seed in range(REPEATS)]
    open_ones = [one.reason for one in rules if one.verdict is Verdict.INCONCLUSIVE]
    assert len(open_ones) > REPEATS / 2
    assert all(re.search(r"(?:\d+|not even \d+) launches a side would decide", reason) for reason in open_ones)


def test_p99_is_reported_where_the_launches_of_the_base_do_not_allow_a_verdict(tmp_path: Path) -> None:
    shown = [judged(tmp_path, seed, launch_sd=0.15)["latency e2e p99"].shown for seed in range(REPEATS)]
    assert shown.count("reported") == REPEATS


def test_nights_of_the_positive_control_pass_though_no_probe_times_it(nights: Nights) -> None:
    sides = [nights.write(name) for name in ("first", "second")]
    for path in sides:
        _rename_policy(path, "scripted")
        for part in (path / "latency").iterdir():
            part.unlink()
    result = gate(*sides, load_rules(DEFAULTS["rules"]))
    assert result.verdict is Verdict.PASS
    shown = [one for one in result.results if one.rule.startswith("latency")]
    assert [one.shown for one in shown] == ["reported", "reported"]


def test_a_policy_that_was_not_probed_never_passes(nights: Nights) -> None:
    sides = [nights.write(name) for name in ("first", "second")]
    for part in (sides[1] / "latency").iterdir():
        part.unlink()
    result = gate(*sides, load_rules(DEFAULTS["rules"]))
    assert result.verdict is Verdict.INCONCLUSIVE


def test_the_command_runs_the_shipped_suite_scaled_by_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Suite] = []

    def run(suite: Suite, *, out: str, **_: object) -> SimpleNamespace:
        ran.append(suite)
        drawn = Nights(Path(out).parent, suite, np.random.default_rng(1))
        drawn.write(Path(out).name)
        return SimpleNamespace(interrupted=False, out=out)

    times = iter(datetime(2026, 3, day, 2, 17, tzinfo=UTC) for day in (1, 2, 3, 4, 5, 6))
    monkeypatch.setattr("harness.evaluation.run", run)
    monkeypatch.setattr("harness.cli.nightly.WallTime", lambda: SimpleNamespace(now=lambda: next(times)))
    argv = ["nightly", "-p", "flow", "--root", str(tmp_path / "nightly"), "--episodes", "5"]
    page = tmp_path / "night.html"
    assert [invoke(argv), invoke([*argv, "--html", str(page), "--metrics", "0"])] == [0, 0]
    assert "<h2>Nights: " in page.read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "PASS" in said
    assert "Metrics: http://127.0.0.1:" in said
    assert {tasks.init_states for suite in ran for tasks in suite.tasks} == {5}
    assert ran[0].probe == load_suite("nightly").probe


def _rename_policy(path: Path, policy: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in (path / "episodes").iterdir():
        table = pq.read_table(part)
        place = table.schema.get_field_index("policy_id")
        renamed = pa.array([policy] * table.num_rows)
        pq.write_table(table.set_column(place, table.schema.field(place), renamed), part)
