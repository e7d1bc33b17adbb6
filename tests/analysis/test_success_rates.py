"""Success rates: errors apart, nothing divided by zero, intervals that textbooks give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis import (
    control_faults,
    control_roles,
    error_counts,
    rate_interval,
    success_by_suite,
    success_by_task,
)
from harness.ledger import Ledger

LedgerOf = Callable[..., Ledger]


def episodes(outcomes: str, **changes: Any) -> list[dict[str, Any]]:
    """One episode per letter: s(uccess), t(imeout), e(rror)."""
    names = {"s": "success", "t": "timeout", "e": "error"}
    base = {"policy_id": "flow", "nfe": 1, "suite": "libero_spatial", "task_id": 0, "task": "a", "attempt": 1} | changes
    label = "-".join(str(value) for value in base.values())
    return [
        base
        | {
            "episode_key": f"{label}-{i}",
            "outcome": names[letter],
            "success": None if letter == "e" else letter == "s",
            "steps": 100 + i,
            "error_type": "NodeError" if letter == "e" else None,
            "error_message": "lost" if letter == "e" else None,
        }
        for i, letter in enumerate(outcomes)
    ]


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_intervals_contain_the_rate_and_stay_in_range(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = rate_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1


def test_errors_are_shown_apart_and_count_in_no_rate(ledger_of: LedgerOf) -> None:
    table = success_by_suite(ledger_of(episodes=episodes("ssste")).episodes)
    row = table.iloc[0]
    assert (row["n"], row["successes"], row["timeouts"], row["errors"]) == (4, 3, 1, 1)
    assert row["rate"] == 0.75
    assert (row["low"], row["high"]) == pytest.approx(tuple(rate_interval(3, 4)))


def test_only_errors_give_no_rate(ledger_of: LedgerOf) -> None:
    row = success_by_suite(ledger_of(episodes=episodes("ee")).episodes).iloc[0]
    assert (row["n"], row["errors"]) == (0, 2)
    assert np.isnan([row["rate"], row["low"], row["high"]]).all()


def test_no_episodes_give_empty_tables(ledger_of: LedgerOf) -> None:
    none = ledger_of().episodes
    assert success_by_suite(none).empty
    assert success_by_task(none).empty
    assert error_counts(none).empty


def test_every_policy_nfe_suite_and_task_has_its_own_row(ledger_of: LedgerOf) -> None:
    rows = [
        *episodes("ss", task_id=0, task="a"),
        *episodes("st", task_id=1, task="b"),
        *episodes("tt", task_id=0, task="a", nfe=10),
        *episodes("tt", task_id=0, task="a", nfe=None, policy_id="noop"),
        *episodes("s", task_id=0, task="a", suite="libero_goal"),
    ]
    frame = ledger_of(episodes=rows).episodes
    suites = success_by_suite(frame).set_index(["policy_id", "nfe", "suite"])["rate"]
    assert suites[("flow", 1, "libero_spatial")] == 0.75
    assert suites[("flow", 10, "libero_spatial")] == 0.0
    assert len(suites) == 4
    assert len(success_by_task(frame)) == 5


def test_steps_are_those_of_successes_and_retries_are_counted(ledger_of: LedgerOf) -> None:
    rows = episodes("sst")
    rows[0]["steps"], rows[1]["steps"], rows[2]["steps"] = 100, 120, 280
    rows[1]["attempt"] = 2
    row = success_by_suite(ledger_of(episodes=rows).episodes).iloc[0]
    assert row["steps"] == 110
    assert row["retried"] == 1


def test_equal_errors_are_counted_together_most_frequent_first(ledger_of: LedgerOf) -> None:
    rows = [*episodes("eee"), *episodes("e", task_id=1, task="b")]
    rows[0]["error_message"] = "another"
    table = error_counts(ledger_of(episodes=rows).episodes)
    assert table[["error_message", "count", "tasks"]].to_numpy().tolist() == [["lost", 3, 2], ["another", 1, 1]]


def test_controls_are_known_by_kind_under_any_label() -> None:
    suite = "policies: [{kind: scripted, label: expert}, {kind: flow, label: noop}]"
    assert control_roles(["expert", "noop", "random"], [suite, None]) == {"expert": "positive", "random": "negative"}


def test_the_stub_world_has_no_controls() -> None:
    assert control_roles(["noop"], ["{world: stub, policies: [{kind: noop, label: noop}]}"]) == {}


@pytest.mark.parametrize(
    ("policy", "outcomes", "faulty"),
    [
        ("scripted", "s" * 17 + "ttt", True),
        ("scripted", "s" * 18 + "tt", False),
        ("scripted", "eee", False),
        ("noop", "s" + "t" * 18, True),
        ("noop", "s" + "t" * 19, False),
        ("flow", "ttt", False),
    ],
)
def test_a_control_that_does_what_it_cannot_is_a_fault(
    ledger_of: LedgerOf, policy: str, outcomes: str, faulty: bool
) -> None:
    table = success_by_suite(ledger_of(episodes=episodes(outcomes, policy_id=policy, nfe=None)).episodes)
    assert bool(control_faults(table, control_roles([policy]))) is faulty
