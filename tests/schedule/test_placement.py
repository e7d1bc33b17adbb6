"""Where actors go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import NodeError
from harness.schedule.failure import Restart, decide_restart
from harness.schedule.placement import NodeResources, place_servers, place_workers, renderer_room, spread_renderers

GIB = 2**30


def node(name="a", cpus=2.0, gpus=0.0, gib=64.0) -> NodeResources:
    return NodeResources(name, f"host-{name}", cpus, gpus, gib * GIB)


NODES = st.lists(
    st.builds(node, st.uuids().map(str), st.integers(0, 16).map(float), st.integers(0, 4).map(float), st.floats(1, 64)),
    min_size=1,
    max_size=4,
    unique_by=lambda node: node.node_id,
)


def test_without_servers_every_cpu_gets_a_worker():
    slots = place_workers([node("a", 4), node("b", 2)], (), None, 100)
    assert Counter(slot.node_id for slot in slots) == {"a": 4, "b": 2}
    assert {slot.cpus for slot in slots} == {1.0}


def test_a_policy_server_takes_its_cpu_first():
    nodes = [node("a", 2)]
    servers = place_servers(nodes, ["flow"])
    assert [server.cpus for server in servers] == [1.0]
    assert len(place_workers(nodes, servers, None, 100, {"a": 1})) == 1


def test_workers_share_the_cpu_of_a_server_that_keeps_none():
    nodes = [node("a", 2)]
    slots = place_workers(nodes, place_servers(nodes, ["flow"]), None, 100, {"a": 0})
    assert [slot.cpus for slot in slots] == [0.5, 0.5]


def test_policies_go_to_the_hardware_that_they_name_and_the_others_elsewhere():
    nodes = [
        replace(node("a", 16, 2), hardware="a100-sxm-80gb"),
        replace(node("s", 20, 1), hardware="dgx-spark-gb10"),
        replace(node("c", 8), hardware="some CPU"),
    ]
    on = {"x": "dgx-spark-gb10", "y": "dgx-spark-gb10", "z": "a100-sxm-80gb"}
    slots = place_servers(nodes, ["x", "y", "z", "free"], on)
    assert [(slot.policy, slot.node_id, slot.gpus) for slot in slots] == [
        ("x", "s", 0.5),
        ("y", "s", 0.5),
        ("z", "a", 1.0),
        ("z", "a", 1.0),
        ("free", "c", 0.0),
    ]


def test_a_policy_without_a_wish_shares_the_roomiest_nodes_when_every_node_is_named():
    nodes = [
        replace(node("a", 16, 2), hardware="a100-sxm-80gb"),
        replace(node("s", 20, 1), hardware="dgx-spark-gb10"),
    ]
    slots = place_servers(nodes, ["x", "z", "free"], {"x": "dgx-spark-gb10", "z": "a100-sxm-80gb"})
    assert [(slot.policy, slot.node_id, slot.gpus) for slot in slots] == [
        ("x", "s", 1.0),
        ("z", "a", 1.0),
        ("free", "a", 1.0),
    ]


def test_hardware_that_no_node_is_is_refused_with_what_the_nodes_are():
    nodes = [replace(node("a"), hardware="a100-sxm-80gb"), node("b"), replace(node("s", 0), hardware="dgx-spark-gb10")]
    said = r"'flow' is to run on dgx-spark-gb10, .* host-a is a100-sxm-80gb, host-b is of no known profile"
    with pytest.raises(NodeError, match=said):
        place_servers(nodes, ["flow"], {"flow": "dgx-spark-gb10"})


def test_one_cpu_is_shared_between_server_and_worker_instead_of_waiting_for_ever():
    nodes = [node("a", 1)]
    servers = place_servers(nodes, ["flow"])
    workers = place_workers(nodes, servers, None, 100)
    assert len(workers) == 1
    assert 0 < servers[0].cpus + workers[0].cpus <= 1.0


def test_memory_limits_workers():
    assert len(place_workers([node("a", 16, gib=8)], (), None, 100)) == 3


def test_there_are_never_more_workers_than_units():
    assert len(place_workers([node("a", 16)], (), None, 3)) == 3
    assert len(place_workers([node("a", 16)], (), 8, 3)) == 3


def test_more_workers_than_cpus_are_possible_when_asked_for():
    slots = place_workers([node("a", 2)], (), 5, 100)
    assert len(slots) == 5
    assert sum(slot.cpus for slot in slots) <= 2.0


def test_every_gpu_gets_a_server_of_a_lone_policy():
    servers = place_servers([node("a", 16, 2), node("b", 16, 1)], ["pi05"])
    assert [(server.node_id, server.gpus) for server in servers] == [("a", 1.0), ("a", 1.0), ("b", 1.0)]


def test_policies_share_a_gpu_when_they_outnumber_gpus():
    servers = place_servers([node("a", 16, 1)], ["one", "two", "three"])
    assert [server.policy for server in servers] == ["one", "two", "three"]
    assert sum(server.gpus for server in servers) <= 1.0


def test_renderers_are_spread_over_a_nodes_gpus_in_proportion():
    slots = place_workers([node("a", 31, 2, gib=999), node("b", 2)], (), None, 100)
    chosen = spread_renderers(slots, {"a": (4, 7)})
    assert len(chosen) == 33
    assert Counter(chosen) == {4: 16, 7: 15, None: 2}
    assert spread_renderers(slots, {}) == (None,) * 33


def test_workers_are_no_more_than_the_fullest_gpu_has_memory_to_render_for():
    assert renderer_room(2, [80 * 10**9, 5 * 10**9]) == 2 * 9
    slots = place_workers([node("a", 64, 8, gib=999)], (), None, 100, render_room={"a": renderer_room(2, [5 * 10**9])})
    assert len(slots) == 18
    assert len(place_workers([node("a", 64, 8, gib=999)], (), 30, 100, render_room={"a": 18})) == 30
    assert len(place_workers([node("a", 64)], (), None, 100, render_room={"a": 0})) == 1


@given(NODES, st.integers(0, 3), st.one_of(st.none(), st.integers(1, 40)), st.integers(1, 100))
def test_nothing_is_placed_that_ray_could_not_start(nodes, n_policies, wanted, n_units):
    if not any(found.cpus for found in nodes):
        with pytest.raises(NodeError, match="No node of the cluster offers a CPU"):
            place_workers(nodes, (), wanted, n_units)
        return
    servers = place_servers(nodes, [f"p{i}" for i in range(n_policies)])
    workers = place_workers(nodes, servers, wanted, n_units)
    assert {server.policy for server in servers} == {f"p{i}" for i in range(n_policies)}
    assert len(workers) >= 1
    assert len(workers) <= n_units
    assert wanted is None or len(workers) == min(wanted, n_units)
    for found in nodes:
        assert (
            sum(worker.cpus for worker in workers if worker.node_id == found.node_id)
            + sum(server.cpus for server in servers if server.node_id == found.node_id and not server.gpus)
            <= found.cpus + 1e-6
        )
        assert sum(server.gpus for server in servers if server.node_id == found.node_id) <= found.gpus + 1e-6


def test_a_lost_worker_is_replaced_until_nothing_has_come_back_for_long():
    verdicts = [decide_restart(losses, n_workers=2, max_attempts=3) for losses in range(1, 10)]
    assert verdicts == [Restart.REPLACE] * 7 + [Restart.GIVE_UP] * 2
