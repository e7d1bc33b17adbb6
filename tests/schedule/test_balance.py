"""How many cores servers keep: none while their policies are light, or where cores are few."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.schedule.balance import ServerDemand, busy_share, reserved_cores

FLOW_ON_A_CPU = ServerDemand("a", {1: 0.015, 2: 0.022, 4: 0.040}, steps=10)
PI05_ON_A_GPU = ServerDemand("a", {1: 0.057, 2: 0.080, 4: 0.107, 8: 0.168, 16: 0.288}, steps=10)
UNMEASURED = ServerDemand("a", {}, steps=10)


def test_two_cores_are_both_given_to_workers():
    assert busy_share(FLOW_ON_A_CPU, 1) == pytest.approx(0.13, abs=0.01)
    for demand in (FLOW_ON_A_CPU, PI05_ON_A_GPU, UNMEASURED):
        assert reserved_cores({"a": 2}, [demand]) == {"a": 0}


def test_a_busy_server_keeps_a_core_where_there_are_many():
    assert reserved_cores({"a": 16}, [PI05_ON_A_GPU]) == {"a": 1}
    assert reserved_cores({"a": 32}, [PI05_ON_A_GPU, PI05_ON_A_GPU]) == {"a": 2}
    assert reserved_cores({"a": 16}, [UNMEASURED]) == {"a": 1}


def test_a_light_server_keeps_none_and_another_node_nothing():
    light = ServerDemand("a", {1: 0.001, 2: 0.001, 4: 0.001, 8: 0.001, 16: 0.001}, steps=10)
    assert reserved_cores({"a": 16}, [light]) == {"a": 0}
    assert reserved_cores({"a": 16, "b": 16}, [PI05_ON_A_GPU]) == {"a": 1, "b": 0}
    assert reserved_cores({"a": 16}, []) == {"a": 0}


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 64), min_size=1),
    st.lists(
        st.builds(ServerDemand, st.sampled_from("abc"), st.just({1: 0.1, 8: 0.3}), st.integers(1, 50)), max_size=8
    ),
)
def test_workers_are_always_left_something(cores, demands):
    reserved = reserved_cores(cores, demands)
    assert set(reserved) == set(cores)
    assert all(0 <= reserved[node] < cores[node] for node in cores)


def test_batches_let_a_server_wait_on_more_workers():
    alone = ServerDemand("a", {1: 0.057}, steps=10)
    assert busy_share(alone, 0) == 0
    assert busy_share(PI05_ON_A_GPU, 1) == busy_share(alone, 1) < busy_share(alone, 2)
    assert busy_share(PI05_ON_A_GPU, 2) < busy_share(alone, 2)
    assert busy_share(alone, 16) == 1
