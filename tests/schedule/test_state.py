"""The controller's bookkeeping, without Ray."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.schedule.keys import episode_key
from harness.schedule.result import EpisodeResult
from harness.schedule.state import MAX_LEASE_UNITS, RunState
from harness.schedule.units import EpisodeUnit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIED = ("WorkerDied", "the process died")


def make_unit(task_id: int = 0, init_state_id: int = 0, policy: str = "p", nfe: int | None = None) -> EpisodeUnit:
    key = episode_key("ab" * 32, "stub", task_id, init_state_id, 0)
    return EpisodeUnit(policy, nfe, "stub", task_id, init_state_id, 0, key, "ab" * 32)


def state_of(units, **changes) -> RunState:
    options = {"max_attempts": 3, "lease_limit_s": 10.0, "n_workers": 2, "started": NOW, **changes}
    return RunState(units, **options)


def ok(item, outcome="timeout", wall_s=5.0, **changes) -> EpisodeResult:
    return EpisodeResult(item.unit, outcome, NOW, item.attempt, wall_s=wall_s, **changes)


def failed(item, error_type="SimulatorError", **changes) -> EpisodeResult:
    return ok(item, "error", error_type=error_type, error_message=f"{error_type} happened", **changes)


def finish(state, worker, lease, results) -> list[EpisodeResult]:
    written = state.settle(worker, lease.lease_id, results)
    state.confirm(written)
    return written


def test_long_episodes_are_leased_one_by_one_and_short_ones_by_the_second():
    units = [make_unit(0, i) for i in range(50)] * 1
    long = state_of(units)
    lease = long.lease("a", 0.0, NOW)
    assert len(lease.items) == 1
    finish(long, "a", lease, [ok(lease.items[0], wall_s=2.0)])
    assert len(long.lease("a", 1.0, NOW).items) == 1

    short = state_of([make_unit(0, i) for i in range(2000)])
    lease = short.lease("a", 0.0, NOW)
    finish(short, "a", lease, [ok(lease.items[0], wall_s=0.002)])
    assert len(short.lease("a", 1.0, NOW).items) == MAX_LEASE_UNITS


def test_the_last_leases_are_shared_evenly():
    state = state_of([make_unit(0, i) for i in range(17)], n_workers=4)
    lease = state.lease("a", 0.0, NOW)
    finish(state, "a", lease, [ok(lease.items[0], wall_s=0.001)])
    assert len(state.lease("a", 0.0, NOW).items) == 2  # 16 left, 4 workers, two leases each


def test_a_resumed_run_begins_with_the_task_that_took_longest_before():
    units = [make_unit(task, init) for task in (0, 1, 2) for init in (0, 1)]
    assert state_of(units).lease("w", 0.0, NOW).items[0].unit.task_id == 0
    took = {("stub", 1): [9.0, 11.0], ("stub", 2): [2.0], ("stub", 0): [3.0]}
    assert [item.unit.task_id for item in state_of(units, earlier_s=took).lease("w", 0.0, NOW).items] == [1]


def test_progress_counts_only_what_was_confirmed_as_written():
    state = state_of([make_unit(0, 0), make_unit(0, 1)])
    lease = state.lease("a", 0.0, NOW)
    written = state.settle("a", lease.lease_id, [ok(lease.items[0], "success")])
    assert state.snapshot(1.0).progress.done == 0
    state.confirm(written)
    progress = state.snapshot(2.0).progress
    assert (progress.done, progress.successes, progress.remaining) == (1, 1, 1)
    assert (progress.rate, progress.eta_s) == (0.5, 2.0)


def test_an_idle_worker_waits_while_another_may_lose_its_work_and_stops_when_all_is_written():
    state = state_of([make_unit()])
    lease = state.lease("a", 0.0, NOW)
    assert not state.lease("b", 0.0, NOW).stop
    written = state.settle("a", lease.lease_id, [ok(lease.items[0])])
    assert not state.lease("b", 0.0, NOW).stop
    state.confirm(written)
    assert state.lease("b", 0.0, NOW).stop
    assert state.snapshot(0.0).finished


def test_the_unit_of_a_lost_worker_goes_to_another_with_the_next_attempt():
    state = state_of([make_unit()])
    state.lease("a", 0.0, NOW)
    assert [attempt.retried for attempt in state.lose("a", DIED)] == [True]
    item = state.lease("b", 0.0, NOW).items[0]
    assert (item.unit, item.attempt) == (make_unit(), 2)


def test_a_unit_that_keeps_killing_its_worker_is_recorded_as_an_error_once():
    state = state_of([make_unit()])
    for attempt in (1, 2, 3):
        assert state.lease(f"w{attempt}", 0.0, NOW, "node-1").items[0].attempt == attempt
        (row,) = state.lose(f"w{attempt}", DIED)
        assert row.retried == (attempt < 3)
        state.confirm([row])
        assert state.snapshot(0.0).progress.done == (attempt == 3)
    assert (row.outcome, row.error_type, row.attempt, row.node_id) == ("error", "WorkerDied", 3, "node-1")
    snapshot = state.snapshot(0.0)
    assert snapshot.finished
    assert [(error.error_type, error.count) for error in snapshot.errors] == [("WorkerDied", 1)]
    assert snapshot.losses_in_a_row == 3


def test_a_lost_lease_of_many_blames_none_and_runs_each_alone():
    state = state_of([make_unit(0, i) for i in range(40)])
    first = state.lease("a", 0.0, NOW)
    finish(state, "a", first, [ok(first.items[0], wall_s=0.001)])
    many = state.lease("a", 0.0, NOW)
    assert len(many.items) > 1
    assert state.lose("a", DIED) == []
    lost = {item.unit for item in many.items}
    seen = []
    while (lease := state.lease("b", 0.0, NOW)).items:
        if lost & {item.unit for item in lease.items}:
            assert len(lease.items) == 1
        seen += [(item.unit, item.attempt) for item in lease.items]
        finish(state, "b", lease, [ok(item, wall_s=0.001) for item in lease.items])
    assert Counter(seen) == Counter((unit, 1) for unit in {make_unit(0, i) for i in range(40)} - {first.items[0].unit})


def test_results_of_a_lease_that_was_given_up_are_dropped():
    state = state_of([make_unit()])
    stale = state.lease("a", 0.0, NOW)
    state.lose("a", ("EpisodeTimeout", "hung"))
    assert state.settle("a", stale.lease_id, [ok(stale.items[0], "success")]) == []
    fresh = state.lease("b", 0.0, NOW)
    assert len(finish(state, "b", fresh, [ok(fresh.items[0])])) == 1
    assert state.snapshot(0.0).progress.done == 1


def test_a_lease_expires_after_its_limit_and_not_before():
    state = state_of([make_unit()], lease_limit_s=10.0)
    state.lease("a", 100.0, NOW)
    assert state.snapshot(110.0).overdue == ()
    assert state.snapshot(110.1).overdue == ("a",)


def test_errors_that_may_pass_are_tried_again_and_others_recorded():
    state = state_of([make_unit()])
    for attempt in (1, 2):
        lease = state.lease("a", 0.0, NOW)
        assert [row.retried for row in finish(state, "a", lease, [failed(lease.items[0])])] == [True], attempt
    lease = state.lease("a", 0.0, NOW)
    assert [row.retried for row in finish(state, "a", lease, [failed(lease.items[0])])] == [False]
    assert state.snapshot(0.0).finished

    sure = state_of([make_unit()])
    lease = sure.lease("a", 0.0, NOW)
    assert len(finish(sure, "a", lease, [failed(lease.items[0], "PolicyRaised")])) == 1


def test_a_fatal_error_stops_the_run_and_is_in_the_ledger():
    state = state_of([make_unit(0, 0), make_unit(0, 1)])
    lease = state.lease("a", 0.0, NOW)
    assert len(finish(state, "a", lease, [failed(lease.items[0], "PolicyServerLost")])) == 1
    assert state.snapshot(0.0).aborted == ("PolicyServerLost", "PolicyServerLost happened")
    assert state.lease("a", 0.0, NOW).stop


def test_stopping_leases_nothing_more_but_takes_what_comes_back():
    state = state_of([make_unit(0, 0), make_unit(0, 1)])
    lease = state.lease("a", 0.0, NOW)
    state.stop()
    assert state.lease("b", 0.0, NOW).stop
    assert len(finish(state, "a", lease, [ok(lease.items[0])])) == 1
    assert not state.snapshot(0.0).finished


def test_a_resumed_run_skips_what_is_there_and_counts_attempts_on():
    done, error = make_unit(0, 0), make_unit(0, 1)
    state = state_of([done, error], skipped={done.identity}, earlier_attempts={error.identity: 3})
    progress = state.snapshot(0.0).progress
    assert (progress.planned, progress.skipped, progress.remaining) == (2, 1, 1)
    (item,) = state.lease("a", 0.0, NOW).items
    assert (item.unit, item.attempt) == (error, 4)


def test_videos_of_all_are_of_the_first_planned_episode_of_each_task_and_policy():
    units = [make_unit(task, init, policy) for task in (0, 1) for init in (3, 5) for policy in ("a", "b")]
    state = state_of(units, video="all")
    filmed = []
    while (lease := state.lease("w", 0.0, NOW)).items:
        filmed += [item.unit for item in lease.items if item.video == "always"]
        finish(state, "w", lease, [ok(item) for item in lease.items])
    assert sorted((unit.task_id, unit.init_state_id, unit.policy) for unit in filmed) == [
        (0, 3, "a"),
        (0, 3, "b"),
        (1, 3, "a"),
        (1, 3, "b"),
    ]


def test_one_failure_of_each_task_and_policy_is_filmed():
    state = state_of([make_unit(0, i) for i in range(3)], video="failures", n_workers=3)
    leases = [state.lease(worker, 0.0, NOW) for worker in ("a", "b")]
    assert [lease.items[0].video for lease in leases] == ["on_failure", "on_failure"]
    assert [state.claim_video(("p", None), ("stub", 0)) for _ in range(2)] == [True, False]
    assert state.claim_video(("p", None), ("stub", 1))
    assert state.lease("c", 0.0, NOW).items[0].video == "never"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=1, max_size=25, unique=True),
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["ok", "error", "fatal-to-worker", "late", "silent"])), max_size=80
    ),
)
def test_every_unit_is_written_exactly_once_whatever_workers_do(places, moves):
    """A move: a worker asks, then comes back, errs, dies, dies and comes back after all, or says nothing yet."""
    units = [make_unit(*place) for place in places]
    state = state_of(units)
    written: list[EpisodeResult] = []
    generation = Counter()

    def write(results):
        state.confirm(results)
        written.extend(result for result in results if not result.retried)

    for index, what in [*moves, *(((0, "ok"),) * (10 * len(units)))]:
        worker = f"w{index}.{generation[index]}"
        lease = state.lease(worker, 0.0, NOW)
        if not lease.items:
            if lease.stop:
                break
            write(state.lose(f"w1.{generation[1]}", DIED) + state.lose(f"w2.{generation[2]}", DIED))
            write(state.lose(worker, DIED))
            continue
        results = [failed(item) if what == "error" else ok(item, wall_s=0.01) for item in lease.items]
        if what in ("fatal-to-worker", "late"):
            write(state.lose(worker, DIED))
            generation[index] += 1
        if what in ("ok", "error", "late"):
            write(state.settle(worker, lease.lease_id, results))
    assert Counter(result.unit for result in written) == Counter(units)
    assert state.snapshot(0.0).finished
    assert state.snapshot(0.0).progress.done == len(units)
    assert all(result.attempt <= 3 for result in written)
