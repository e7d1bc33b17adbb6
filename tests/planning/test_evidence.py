"""What is read from ledgers for a plan, and what is not: stalls, probes, decisions that are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.ledger import Ledger
from harness.planning.evidence import RunEvidence, read_evidence

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"


def first(name: str) -> RunEvidence:
    return read_evidence(Ledger(EXAMPLES / name))[0]


def test_a_gap_longer_than_an_episode_is_a_stall_of_the_machine_and_not_drawn_again() -> None:
    ledger = Ledger(EXAMPLES / "planning" / "noop-w2")
    assert ledger.episodes["idle_s"].max() > 200
    (run,) = read_evidence(ledger)
    assert 0 < max(run.idle_s) < 1


def test_probes_of_an_old_ledger_are_no_part_of_its_wall_time() -> None:
    run = first("demo")
    assert run.end_s == pytest.approx(0.0)
    # 185 s with its probes, of which the ledger has no phases.
    assert run.wall_s == pytest.approx(128, abs=1)


def test_a_served_policy_without_its_decisions_is_not_taken_for_one_that_decides_in_its_workers() -> None:
    assert first("agree/ledger").episodes == {}


def test_episodes_know_their_clock() -> None:
    (samples,) = first("wall/25-wall").episodes.values()
    assert all(sample.in_real_time for sample in samples)
    (samples,) = first("wall/25-asynchronous").episodes.values()
    assert not any(sample.in_real_time for sample in samples)
    assert {clock for clock, _ in (sample.timing for sample in samples)} == {"asynchronous"}
