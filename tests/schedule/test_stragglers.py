"""The last episodes, run a second time on another node."""

from __future__ import annotations

from datetime import UTC, datetime

from test_state import DIED, failed, finish, make_unit, ok, state_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def late(nodes=("slow", "fast")):
    """A run whose last episode has been under way on one node for long, while a worker of another is idle."""
    state = state_of([make_unit(0, i) for i in range(2)])
    slow = state.lease("s", 0.0, NOW, nodes[0])
    quick = state.lease("f", 0.0, NOW, nodes[1])
    finish(state, "f", quick, [ok(quick.items[0], wall_s=10.0, node_id=nodes[1])])
    return state, slow


def test_an_idle_worker_elsewhere_runs_a_late_episode_again_and_only_once():
    state, slow = late()
    assert state.lease("f", 14.0, NOW, "fast").items == (), "it is not late yet"
    copy = state.lease("f", 16.0, NOW, "fast")
    assert [item.unit for item in copy.items] == [slow.items[0].unit]
    third = state.lease("g", 100.0, NOW, "other")
    assert (third.items, third.stop) == ((), False)


def test_beside_itself_no_episode_is_run_again():
    state, _ = late(nodes=("one", "one"))
    assert state.lease("f", 100.0, NOW, "one").items == ()


def test_the_first_that_ends_counts_and_the_other_is_compared():
    for same in (True, False):
        state, slow = late()
        copy = state.lease("f", 16.0, NOW, "fast")
        won = ok(copy.items[0], "success", node_id="fast", trajectory_sha256="aa")
        assert finish(state, "f", copy, [won]) == [won]
        snapshot = state.snapshot(17.0)
        assert (snapshot.finished, snapshot.superseded, snapshot.progress.done) == (True, ("s",), 2)
        assert state.lease("f", 17.0, NOW, "fast").stop, "nobody waits for the other"
        lost = ok(slow.items[0], "success", node_id="slow", trajectory_sha256="aa" if same else "bb")
        assert finish(state, "s", slow, [lost]) == []
        ((duplicate,), again) = state.take_duplicates(), state.take_duplicates()
        assert (duplicate.counted, duplicate.other, duplicate.equal) == (won, lost, same)
        assert again == []
        assert state.snapshot(18.0).progress.done == 2


def test_an_error_of_one_counts_only_when_the_other_fails_too():
    state, slow = late()
    copy = state.lease("f", 16.0, NOW, "fast")
    assert finish(state, "f", copy, [failed(copy.items[0], node_id="fast")]) == []
    assert not state.snapshot(17.0).finished
    (row,) = finish(state, "s", slow, [ok(slow.items[0], "success", node_id="slow")])
    assert row.outcome == "success"
    assert state.snapshot(18.0).finished

    state, slow = late()
    copy = state.lease("f", 16.0, NOW, "fast")
    assert state.lose("s", DIED) == []
    (row,) = finish(state, "f", copy, [failed(copy.items[0], node_id="fast")])
    assert row.retried
    assert state.lease("g", 20.0, NOW, "third").items[0].unit == slow.items[0].unit


def test_an_error_after_the_other_has_ended_is_nobodys():
    state, slow = late()
    copy = state.lease("f", 16.0, NOW, "fast")
    finish(state, "s", slow, [ok(slow.items[0], "success", node_id="slow")])
    assert finish(state, "f", copy, [failed(copy.items[0], node_id="fast")]) == []
    assert state.snapshot(17.0).finished
    assert state.take_duplicates() == []
