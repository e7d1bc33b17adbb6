"""From task sets to units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.schedule.plan import SuiteCounts, missing, plan_episodes
from harness.spec.suite import TaskSet

COUNTS = {"stub": SuiteCounts((5, 5, 3), "ab" * 32), "other": SuiteCounts((2,), "cd" * 32)}


def test_a_plan_is_tasks_times_init_states_times_trials_times_variants():
    plan = plan_episodes([TaskSet(suite="stub", init_states=3, trials=2)], COUNTS, [("a", None), ("b", 1), ("b", 10)])
    assert len(plan) == 3 * 3 * 2 * 3
    assert len({unit.identity for unit in plan}) == len(plan)


def test_all_init_states_means_those_of_each_task():
    plan = plan_episodes([TaskSet(suite="stub")], COUNTS, [("a", None)])
    assert [sum(unit.task_id == task for unit in plan) for task in range(3)] == [5, 5, 3]


def test_the_same_episode_has_one_key_for_every_policy_and_nfe():
    plan = plan_episodes(
        [TaskSet(suite="stub", tasks=(1,), init_states=(4,))], COUNTS, [("a", None), ("b", 1), ("b", 5)]
    )
    assert len({unit.episode_key for unit in plan}) == 1


def test_suites_and_protocols_have_keys_of_their_own():
    plan = plan_episodes(
        [TaskSet(suite="stub", tasks=(0,), init_states=1), TaskSet(suite="other", init_states=1)], COUNTS, [("a", None)]
    )
    assert len({unit.episode_key for unit in plan}) == 2


@given(st.permutations(list(range(3))))
def test_keys_do_not_depend_on_the_order_of_tasks(order):
    def keys(tasks):
        plan = plan_episodes([TaskSet(suite="stub", tasks=tuple(tasks))], COUNTS, [("a", None)])
        return {(unit.task_id, unit.init_state_id): unit.episode_key for unit in plan}

    assert keys(order) == keys(range(3))


def test_an_unknown_task_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match="stub has no task 7; its tasks are 0 to 2"):
        plan_episodes([TaskSet(suite="stub", tasks=(0, 7))], COUNTS, [("a", None)])


def test_an_unknown_init_state_is_named_with_those_that_exist():
    with pytest.raises(UsageError, match="task 2 has no init state 4; it has 3, ids 0 to 2"):
        plan_episodes([TaskSet(suite="stub", init_states=5)], COUNTS, [("a", None)])


def test_resuming_leaves_out_what_the_ledger_holds():
    plan = plan_episodes([TaskSet(suite="stub")], COUNTS, [("a", None), ("b", 1)])
    held = {unit.identity for unit in plan[::2]}
    assert missing(plan, held) == plan[1::2]
    assert missing(plan, set()) == plan
