"""Checks on actions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from harness.rollout import PolicyActionError, check_actions
from harness.spec.action_space import LIBERO_ACTIONS


@given(npst.arrays(np.float32, (4, 7), elements=st.floats(-3, 3, width=32)))
def test_whatever_is_finite_comes_out_in_range_and_in_range_values_untouched(actions):
    checked = check_actions(actions, 4, 0)
    assert (np.abs(checked.actions) <= 1).all()
    inside = np.abs(actions) <= 1
    np.testing.assert_array_equal(checked.actions[inside], actions[inside])
    np.testing.assert_array_equal(checked.clipped, ~inside.all(axis=1))


def test_absolute_targets_have_no_such_range():
    actions = np.full((1, 7), 1.17, dtype=np.float32)
    checked = check_actions(actions, 1, 0, LIBERO_ACTIONS["absolute"])
    np.testing.assert_array_equal(checked.actions, actions)
    assert not checked.clipped.any()


def test_the_policys_own_array_is_not_written_to():
    actions = np.full((1, 7), 9.0, dtype=np.float32)
    check_actions(actions, 1, 0)
    assert (actions == 9.0).all()


def test_a_message_lists_a_few_offenders_and_counts_the_rest():
    with pytest.raises(PolicyActionError, match=r"\[0, 0\] = nan.*\[0, 4\] = nan and 9 more"):
        check_actions(np.full((2, 7), np.nan), 2, 3)


@pytest.mark.parametrize("actions", [None, "left", [[1, 2], [3]], object()])
def test_what_is_no_array_is_named(actions):
    with pytest.raises(PolicyActionError, match="Decision 2 returned"):
        check_actions(actions, 1, 2)
