"""Where a failed episode runs next, and when a node gets no more work."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from test_state import failed, finish, make_unit, ok, state_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def lease(state, node, worker=None):
    return state.lease(worker or f"worker-{node}", 0.0, NOW, node)


def test_a_failed_episode_runs_elsewhere_and_its_first_node_goes_on_with_others():
    state = state_of([make_unit(0, 0), make_unit(0, 1), make_unit(0, 2)])
    bad, other = lease(state, "a"), lease(state, "b")
    (attempt,) = finish(state, "worker-a", bad, [failed(bad.items[0], node_id="a")])
    assert attempt.retried, "the attempt is written, and does not count"
    assert state.snapshot(0.0).progress.done == 0
    unit = bad.items[0].unit
    assert lease(state, "a").items[0].unit != unit
    finish(state, "worker-b", other, [ok(other.items[0], node_id="b")])
    again = lease(state, "b")
    assert (again.items[0].unit, again.items[0].attempt) == (unit, 2)


def test_the_node_of_a_failed_episode_waits_for_another_to_take_it_and_takes_it_when_none_is_left():
    state = state_of([make_unit(0, 0), make_unit(0, 1)])
    bad, _ = lease(state, "a"), lease(state, "b")
    finish(state, "worker-a", bad, [failed(bad.items[0], node_id="a")])
    waiting = lease(state, "a")
    assert (waiting.items, waiting.stop) == ((), False)
    state.lose("worker-b", ("NodeLost", "gone"))
    assert {lease(state, "a", f"w{i}").items[0].unit.init_state_id for i in range(2)} == {0, 1}


def test_a_frame_that_one_node_cannot_draw_is_drawn_by_another_and_recorded_when_none_can():
    state = state_of([make_unit(0, 0)])
    one, _ = lease(state, "a"), lease(state, "b")
    assert finish(state, "worker-a", one, [failed(one.items[0], "RenderError", node_id="a")])[0].retried
    two = lease(state, "b")
    (last,) = finish(state, "worker-b", two, [failed(two.items[0], "RenderError", node_id="b")])
    assert not last.retried
    assert state.snapshot(0.0).finished


def fail_on_a(state, times, error_type="SimulatorError"):
    for _ in range(times):
        given = lease(state, "a")
        finish(state, "worker-a", given, [failed(given.items[0], error_type, node_id="a")])


@pytest.mark.parametrize(
    ("healthy", "error_type", "barred"),
    [(True, "SimulatorError", True), (False, "SimulatorError", False), (True, "PolicyTimeout", False)],
)
def test_a_node_that_alone_keeps_failing_gets_no_more_work(healthy, error_type, barred):
    state = state_of([make_unit(0, i) for i in range(20)])
    other = lease(state, "b")
    if healthy:
        finish(state, "worker-b", other, [ok(other.items[0], node_id="b")])
    fail_on_a(state, 3, error_type)
    assert lease(state, "a").stop is barred
    assert [w.partition(":")[0] for w in state.snapshot(0.0).warnings] == ["Node a gets no more work"] * barred


def test_a_node_that_fails_now_and_then_stays():
    state = state_of([make_unit(0, i) for i in range(20)])
    other = lease(state, "b")
    finish(state, "worker-b", other, [ok(other.items[0], node_id="b")])
    for _ in range(3):
        fail_on_a(state, 2)
        given = lease(state, "a")
        finish(state, "worker-a", given, [ok(given.items[0], node_id="a")])
    assert not lease(state, "a").stop


def test_a_run_stops_when_more_episodes_are_errors_than_the_suite_allows():
    state = state_of([make_unit(0, i) for i in range(20)], max_errors=1, max_attempts=1)
    fail_on_a(state, 1)
    assert state.snapshot(0.0).aborted is None
    fail_on_a(state, 1)
    kind, message = state.snapshot(0.0).aborted
    assert kind == "TooManyErrors"
    assert "2 episodes ended as errors, and the suite allows 1 (max_errors); the last one: SimulatorError" in message
    assert lease(state, "a").stop
