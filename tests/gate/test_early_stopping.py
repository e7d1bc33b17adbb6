"""The gate that rides along with a run: rounds, complete rounds only, and the record it leaves."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.gate.early_stopping import GateStopping, plan_rounds, stopping_against
from harness.schedule.early_stopping import StopNote
from harness.schedule.keys import episode_key
from harness.schedule.result import EpisodeResult
from harness.schedule.state import RunState
from harness.schedule.units import EpisodeUnit
from harness.spec.manifest import manifest_sha256
from harness.spec.rules import GateRules, PairRule, SuccessRule

RULES = GateRules(design="sequential", success=SuccessRule(margin=0.03), pairs=PairRule(min=1))
MANIFEST = {
    "suite": "libero_spatial",
    "max_steps": 280,
    "settle_steps": 10,
    "resolution": 256,
    "version.mujoco": "3.3.2",
}


def units(per_task: Sequence[int], policy: str = "pi", nfe: int | None = None) -> list[EpisodeUnit]:
    digest = manifest_sha256(MANIFEST)
    return [
        EpisodeUnit(
            policy, nfe, "libero_spatial", task, init, 0, episode_key(digest, "libero_spatial", task, init, 0), digest
        )
        for task, count in enumerate(per_task)
        for init in range(count)
    ]


def results(members: Iterable[EpisodeUnit], outcome: str = "success") -> list[EpisodeResult]:
    return [
        EpisodeResult(unit=unit, outcome=outcome, attempt=1, started_at=datetime(2026, 3, 1, tzinfo=UTC))
        for unit in members
    ]


@given(per_task=st.lists(st.integers(1, 12), min_size=1, max_size=5), looks=st.integers(1, 15), seed=st.randoms())
def test_rounds_hold_every_unit_once_in_an_order_that_the_plan_does_not_decide(
    per_task: list[int], looks: int, seed: Any
) -> None:
    plan = units(per_task)
    rounds = plan_rounds(plan, looks)
    assert Counter(unit.identity for members in rounds for unit in members) == Counter(unit.identity for unit in plan)
    assert len(rounds) <= looks
    seed.shuffle(plan)
    assert plan_rounds(plan, looks) == rounds


def test_a_round_holds_equally_many_episodes_of_every_task() -> None:
    rounds = plan_rounds(units([50] * 10), 10)
    assert [Counter(unit.task_id for unit in members) for members in rounds] == [
        Counter(dict.fromkeys(range(10), 5))
    ] * 10


def test_a_round_is_leased_out_before_the_next_one_begins() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    rounds = plan_rounds(units([6] * 4), 3)
    plan = [unit for members in rounds for unit in members]
    state = RunState(plan, max_attempts=2, lease_limit_s=10, n_workers=3, started=start, rounds=rounds)
    leased = [state.lease(f"w{n % 3}", float(n), start).items[0].unit for n in range(len(plan))]
    assert [set(leased[n : n + 8]) for n in (0, 8, 16)] == [set(members) for members in rounds]
    assert not state.snapshot(99.0).finished


def test_a_decided_run_leases_nothing_more_and_knows_that_it_is_not_finished() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    plan = units([2])
    state = RunState(plan, max_attempts=2, lease_limit_s=10, n_workers=1, started=start, rounds=[plan[:1], plan[1:]])
    state.decide(StopNote("enough", {}))
    assert state.lease("w", 0.0, start).stop
    snapshot = state.snapshot(1.0)
    assert (snapshot.finished, snapshot.decided) == (False, StopNote("enough", {}))


def watch(make_ledger: Any, base: str, rules: GateRules = RULES, **options: Any) -> GateStopping:
    path = make_ledger("base", [base] * 10)
    return stopping_against(path, rules, units([len(base)] * 10), {"libero_spatial": MANIFEST}, **options)


def test_a_round_counts_only_when_its_last_episode_has_ended(make_ledger: Any) -> None:
    # Slow failures must not be outrun by fast successes.
    gate = watch(make_ledger, "+" * 50)
    first = gate.rounds()[0]
    assert gate.take(results(gate.rounds()[1])) is None
    assert gate.take(results(first[:-1], "timeout")) is None
    note = gate.take(results(first[-1:], "timeout"))
    assert note is not None
    assert note.record["verdict"] == "FAIL"
    assert note.record["rounds"] == 2


def test_agreement_is_certain_after_five_rounds_of_fifty(make_ledger: Any) -> None:
    gate = watch(make_ledger, "+" * 50)
    notes = [gate.take(results(members)) for members in gate.rounds()[:5]]
    assert notes[:4] == [None] * 4
    assert notes[4] is not None
    assert notes[4].record["verdict"] == "PASS"
    assert "look 5 of 10 planned: 250 of 500 pairs (250 to go, saved if this stops)" in notes[4].reason
    assert set(notes[4].record["episode_keys"]) == {u.episode_key for members in gate.rounds()[:5] for u in members}


def test_the_watch_travels_to_the_controller(make_ledger: Any) -> None:
    gate = pickle.loads(pickle.dumps(watch(make_ledger, "+" * 50)))  # noqa: S301 - our own object
    assert gate.take(results(gate.rounds()[0], "timeout")) is not None


def test_what_a_resumed_ledger_holds_has_ended_but_its_errors_have_not(make_ledger: Any) -> None:
    out = make_ledger("out", ["-" * 49 + "!"] * 10)
    gate = watch(make_ledger, "+" * 50, out=out)
    assert len(gate.outcomes) == 490
    note = gate.take(())
    assert note is not None
    assert note.record["verdict"] == "FAIL"


def test_episodes_that_the_base_lacks_are_run_but_not_weighed(make_ledger: Any) -> None:
    gate = stopping_against(make_ledger("base", ["+" * 10] * 10), RULES, units([50] * 10), {"libero_spatial": MANIFEST})
    assert sum(map(len, gate.rounds())) == 500
    assert "over 8 pairs" in next(filter(None, (gate.take(results(m, "timeout")) for m in gate.rounds()))).reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": GateRules(success=SuccessRule(margin=0.03))}, "fixed design"),
        ({"plan": [*units([2]), *units([2], nfe=10)]}, "one policy at one NFE"),
        ({"manifests": {"libero_spatial": {**MANIFEST, "max_steps": 220}}}, "max_steps: 280 against 220"),
        ({"plan": units([3])[2:]}, "none of the 1 planned episodes"),
    ],
)
def test_runs_that_cannot_be_gated_are_refused(make_ledger: Any, changes: dict[str, Any], message: str) -> None:
    request = {"rules": RULES, "plan": units([2]), "manifests": {"libero_spatial": MANIFEST}, **changes}
    with pytest.raises(UsageError, match=message):
        stopping_against(make_ledger("base", ["++"]), **request)
