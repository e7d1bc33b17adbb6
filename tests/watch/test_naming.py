"""Names: the same contents keep theirs, a restarted training gets new ones, nothing is evaluated twice under one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.watch.backlog.journal import CheckpointStatus, Event, Kind, State, fold
from harness.watch.checkpoints.naming import Arrival, register


def arrive(state: State, *arrivals: Arrival) -> State:
    for arrival in arrivals:
        state = fold(register(state, arrival), state)
    return state


def checkpoint(step: int, digest: str, at: float, place: str | None = None, **changes) -> Arrival:
    return Arrival(place or f"/run/{step}", step, digest, int(at * 1e9), **changes)


def test_training_in_order_is_one_lineage() -> None:
    state = arrive(State(), checkpoint(1000, "a", 1), checkpoint(2000, "b", 2))
    assert [(one.name, one.lineage) for one in state.entries.values()] == [("step-001000", 1), ("step-002000", 1)]


def test_the_same_contents_a_second_time_are_not_evaluated_again() -> None:
    state = arrive(State(), checkpoint(1000, "a", 1))
    assert register(state, checkpoint(1000, "a", 9)) == [], "only touched"
    again = checkpoint(1000, "a", 9, place="/run/copy-1000")
    (event,) = register(state, again)
    assert (event.kind, event.name) == (Kind.AGAIN, "step-001000")
    assert register(fold([event], state), again) == [], "said once"


def test_a_restart_from_an_earlier_step_begins_a_new_lineage() -> None:
    state = arrive(State(), checkpoint(1000, "a", 1), checkpoint(2000, "b", 2), checkpoint(3000, "c", 3))
    state = fold([Event(Kind.EVALUATED, "step-002000", {}), Event(Kind.EVALUATED, "step-003000", {})], state)
    state = arrive(state, checkpoint(1500, "d", 4), checkpoint(2000, "e", 5), checkpoint(3000, "f", 6))
    names = [one.name for one in state.entries.values()]
    assert names[3:] == ["step-001500-r2", "step-002000-r2", "step-003000-r2"]
    assert state.entries["step-002000"].status is CheckpointStatus.EVALUATED, "what was evaluated stays so"


def test_an_earlier_step_that_was_only_found_late_is_no_restart() -> None:
    state = arrive(State(), checkpoint(2000, "b", 20), checkpoint(1000, "a", 10))
    assert [(one.name, one.lineage) for one in state.entries.values()] == [("step-002000", 1), ("step-001000", 1)]


def test_the_same_step_twice_with_different_contents_gets_two_names() -> None:
    state = arrive(State(), checkpoint(1000, "a", 10), checkpoint(1000, "b", 10, place="/run/step-1000"))
    assert list(state.entries) == ["step-001000", "step-001000-b"]


def test_a_checkpoint_overwritten_before_its_evaluation_is_said_to_be_lost() -> None:
    state = arrive(State(), checkpoint(1000, "a", 1), checkpoint(1000, "b", 2))
    assert state.entries["step-001000"].status is CheckpointStatus.CHANGED
    assert "overwrote it before" in state.entries["step-001000"].reason
    assert state.entries["step-001000-r2"].status is CheckpointStatus.WAITING


def test_one_that_vanished_and_is_back_waits_again() -> None:
    state = fold([Event(Kind.VANISHED, "step-001000")], arrive(State(), checkpoint(1000, "a", 1)))
    state = arrive(state, checkpoint(1000, "a", 1, place="/restored/1000"))
    entry = state.entries["step-001000"]
    assert (entry.status, entry.place) == (CheckpointStatus.WAITING, "/restored/1000")


def test_a_submission_is_read_once_also_when_the_folder_had_it_first() -> None:
    state = arrive(State(), checkpoint(1000, "a", 1))
    submitted = checkpoint(1000, "a", 2, source="outbox", submission_id="s1")
    state = arrive(state, submitted)
    assert state.submissions == {"s1"}
    assert register(state, submitted) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.integers(1, 20)), max_size=15))
def test_whatever_arrives_every_name_is_one_content_and_every_content_of_a_step_has_one_name(arrivals) -> None:
    state = arrive(State(), *(checkpoint(step, digest, at) for step, digest, at in arrivals))
    contents = [(one.step, one.digest) for one in state.entries.values()]
    assert len(set(contents)) == len(contents) == len(state.entries)
    assert set(contents) == {(step, digest) for step, digest, _ in arrivals}
    assert arrive(state, *(checkpoint(step, digest, at) for step, digest, at in arrivals)).entries.keys() == (
        state.entries.keys()
    )
