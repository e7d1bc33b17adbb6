"""Work order: pure, fair, and conserving."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from harness.schedule.keys import episode_key
from harness.schedule.order import fill_queue, put_back, take
from harness.schedule.units import EpisodeUnit


def unit(task_id: int, init_state_id: int = 0, policy: str = "p", nfe: int | None = None) -> EpisodeUnit:
    key = episode_key("ab" * 32, "stub", task_id, init_state_id, 0)
    return EpisodeUnit(policy, nfe, "stub", task_id, init_state_id, 0, key, "ab" * 32)


UNITS = st.lists(
    st.builds(
        unit,
        st.integers(0, 4),
        st.integers(0, 9),
        st.sampled_from(["scripted", "noop", "flow"]),
        st.sampled_from([None, 1, 10]),
    ),
    max_size=40,
    unique=True,
)


def contents(queue) -> Counter[EpisodeUnit]:
    return Counter(member for members in queue.by_task.values() for member in members)


@given(UNITS, st.randoms())
def test_the_queue_does_not_depend_on_the_order_of_its_input(units, random):
    shuffled = units[:]
    random.shuffle(shuffled)
    assert fill_queue(shuffled) == fill_queue(units)


@given(UNITS, st.integers(1, 5), st.integers(0, 4))
def test_taking_and_putting_back_conserves_units(units, n_units, own_task):
    queue = fill_queue(units)
    chosen, rest = take(queue, "w", {"w": ("stub", own_task)}, lambda task: 1.0, n_units)
    assert contents(rest) + Counter(chosen) == Counter(units)
    assert rest.n_units + len(chosen) == len(units)
    assert put_back(rest, chosen) == queue
    assert put_back(rest, ()) is rest
    assert bool(chosen) == bool(units)
    assert len({member.task for member in chosen}) <= 1


@given(UNITS, st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.booleans()), max_size=200))
def test_any_interleaving_of_workers_runs_every_unit_exactly_once(units, moves):
    """A move: which worker is idle, how many units it takes, and whether it dies with them."""
    queue, assignments, ran = fill_queue(units), {}, Counter()
    for worker, n_units, dies in [*moves, *((0, 1, False) for _ in units)]:
        chosen, queue = take(queue, f"w{worker}", assignments, lambda task: 1.0 + task[1], n_units)
        if dies:
            queue = put_back(queue, chosen)
            assignments.pop(f"w{worker}", None)
        elif chosen:
            assignments[f"w{worker}"] = chosen[0].task
            ran.update(chosen)
    assert ran == Counter(units)
    assert queue.n_units == 0


def test_a_worker_stays_with_its_task_while_that_has_work():
    queue = fill_queue([unit(0, 0), *(unit(1, i) for i in range(9))])
    chosen, _ = take(queue, "w", {"w": ("stub", 0)}, lambda task: 1.0, 5)
    assert [member.task_id for member in chosen] == [0]


def test_an_idle_worker_takes_the_task_with_the_most_work_per_worker():
    queue = fill_queue([*(unit(0, i) for i in range(6)), *(unit(1, i) for i in range(4))])
    expected = {("stub", 0): 1.0, ("stub", 1): 2.0}.__getitem__
    assert take(queue, "w", {}, expected, 1)[0][0].task_id == 1
    assert take(queue, "w", {"other": ("stub", 1)}, expected, 1)[0][0].task_id == 0


def test_within_a_task_policies_are_mixed_so_that_a_run_cut_short_is_a_fair_sample():
    units = [unit(0, i, policy) for policy in ("a", "b") for i in range(50)]
    first = fill_queue(units).by_task[("stub", 0)][:50]
    assert Counter(member.policy for member in first) == {"a": 25, "b": 25}
    assert len({member.init_state_id for member in first}) == 25


def test_nothing_is_taken_from_an_empty_queue():
    queue = fill_queue([])
    assert take(queue, "w", {}, lambda task: 1.0, 3) == ((), queue)
