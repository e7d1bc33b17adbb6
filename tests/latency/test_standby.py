"""Specification of children that start ahead of their turn. The processes are real, and the instants are recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import probe_stubs
import pytest

from harness.latency import Budget, run_isolated, synthetic_observations
from harness.latency.probe import ConfigurationResult
from harness.latency.standby import PolicyCode, Standby
from harness.spec.policy import parse_policy

SHORT = Budget(min_seconds=0.3, min_samples=4, max_seconds=20, warmup_seconds=0.1, warmup_window=1)
TICK_S = 0.02
"""To which the start of a process is known, twice."""
OBSERVATIONS = synthetic_observations(2, resolution=8)


@pytest.fixture
def standby() -> Iterator[Standby]:
    with Standby(ahead=2) as standby:
        yield standby


def instants(folder: Path, kind: str) -> Mapping[int, list[float]]:
    """What processes wrote down, by process id."""
    return {int(path.stem.split("-")[1]): json.loads(path.read_text()) for path in folder.glob(f"{kind}-*.json")}


def sampling(result: ConfigurationResult) -> tuple[int, float, float]:
    """The process of a configuration, when it began to measure and when it ended."""
    ends = [row["started_at"] + timedelta(milliseconds=row["latency_ms"]) for row in result.rows]
    first = min(row["started_at"] for row in result.rows)
    return int(result.policy_id.split("-")[1]), first.timestamp(), max(ends).timestamp()


def test_no_child_starts_or_imports_while_another_measures_and_each_launch_has_its_own_process(
    tmp_path: Path, standby: Standby
) -> None:
    imports = probe_stubs.SlowImports(tmp_path)
    results = []
    for launch in range(2):
        found = run_isolated(
            probe_stubs.MakeObserved(tmp_path),
            observations=OBSERVATIONS,
            nfes=(1, 2),
            budget=SHORT,
            imports=imports,
            standby=standby,
            following=[imports] * 2 if not launch else [],
            on_counts=lambda rows: None,
        )
        results += found.probe.configurations
    measured = [sampling(result) for result in results]
    imported, built = instants(tmp_path, "import"), instants(tmp_path, "built")
    assert len({process for process, _, _ in measured}) == 4
    # Whoever was started was used, and what it does besides importing began with its turn.
    assert imported.keys() == built.keys() == {process for process, _, _ in measured}
    for process, began, ended in measured:
        (turn,) = built[process]
        others = [span for other, span in imported.items() if other != process]
        assert all(done < turn or start > ended - TICK_S for start, done in others), (turn, began, ended, others)
    for (_, _, ended), (after, began, _) in pairwise(measured):
        assert built[after][0] > ended
        assert began > ended
    # Two start together; and the next two while the second still counts and ends.
    first, second, third, fourth = (imported[process] for process, _, _ in measured)
    assert second[0] < first[1]
    assert fourth[0] < third[1]


def test_a_child_whose_policy_does_not_come_is_ended_and_another_is_started(tmp_path: Path, standby: Standby) -> None:
    one, other = (probe_stubs.SlowImports(tmp_path, name) for name in ("one", "other"))
    child = standby.take(one, [one, one])
    standby.fill()
    (spare,) = standby._waiting
    instead = standby.take(other)
    assert (instead.imports, standby._waiting) == (other, [])
    assert not spare.process.is_alive()
    for each in (child, instead):
        each.process.kill()
        each.end()


def test_nobody_is_left_when_the_probe_is_over(tmp_path: Path) -> None:
    with Standby(ahead=3) as standby:
        child = standby.take(None, [None, None])
        waiting = list(standby._waiting)
        assert standby.settle(child, 60)
        assert all(each.process.is_alive() for each in waiting)
        child.end()
    assert len(waiting) == 2
    assert not any(each.process.is_alive() for each in (child, *waiting))


def test_no_more_start_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"available": 3 * 10**9})
    monkeypatch.setattr("harness.latency.standby.psutil.virtual_memory", lambda: memory)
    with Standby(ahead=4) as standby:
        child = standby.take(None, [None] * 3)
        assert standby._waiting == []
        memory.available = 0
        second = standby.take(None, [None])
        assert standby._waiting == []
        for each in (child, second):
            each.end()


def test_policies_of_one_kind_share_what_they_import_and_importable_ones_their_module() -> None:
    assert PolicyCode.of(parse_policy("flow:student")) == PolicyCode.of(parse_policy("flow"))
    assert PolicyCode.of(parse_policy("flow")) != PolicyCode.of(parse_policy("scripted"))
    assert PolicyCode.of(parse_policy("python:a:F")) != PolicyCode.of(parse_policy("python:b:F"))
