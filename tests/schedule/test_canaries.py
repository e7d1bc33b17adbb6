"""What is made of the answers of unlike nodes, without a cluster."""

from __future__ import annotations

import numpy as np
import pytest

from harness.schedule.canaries import (
    CanaryNode,
    Sung,
    canary_labels,
    compare_canaries,
    describe_outside,
    digest,
    need_canaries,
)

AVX512, AVX2 = ("avx512", "osmesa", None), ("avx2", "osmesa", None)
LIMITS = {"episode": 1e-3, "frame": 16.0, "decision": 0.02}


def sung(*values: float, kind: str = "episode") -> Sung:
    array = np.array(values)
    return Sung(kind, "task 0", array, digest(array))


def node(name: str, machine: tuple[str, str, None], *answers: Sung) -> CanaryNode:
    return CanaryNode(name, machine, "some-hardware", answers)


@pytest.mark.parametrize(
    ("machines", "mode", "needed"),
    [
        ([AVX512, AVX512], "auto", False),
        ([AVX512, AVX2], "auto", True),
        ([AVX512, AVX512], "always", True),
        ([AVX512, AVX2], "never", False),
        ([], "auto", False),
    ],
)
def test_only_unlike_nodes_pay(machines: list, mode: str, needed: bool) -> None:
    assert need_canaries(machines, mode) is needed


def test_between_classes_a_small_difference_is_within_and_in_a_class_none_is() -> None:
    first, other = node("a", AVX512, sung(1.0)), node("b", AVX2, sung(1.0005))
    assert [check.within for check in compare_canaries([first, other], LIMITS)] == [True, True]
    twin = node("c", AVX512, sung(1.0005))
    checks = compare_canaries([first, other, twin], LIMITS)
    assert canary_labels(checks) == {"a": "reference", "b": "within", "c": "outside"}
    assert "a machine of its class" in describe_outside(checks)["c"]


def test_a_large_difference_between_classes_is_outside_and_named_with_its_limit() -> None:
    checks = compare_canaries([node("a", AVX512, sung(1.0)), node("b", AVX2, sung(1.5))], LIMITS)
    assert describe_outside(checks) == {"b": "episode task 0 differs from that of a by 0.5 (limit 0.001)"}


def test_the_reference_is_of_the_largest_class_so_that_the_odd_one_is_odd() -> None:
    nodes = [node("odd", AVX2, sung(2.0)), node("a", AVX512, sung(1.0)), node("b", AVX512, sung(1.0))]
    assert canary_labels(compare_canaries(nodes, LIMITS)) == {"odd": "outside", "a": "reference", "b": "within"}


@pytest.mark.parametrize(
    "answer",
    [
        Sung("episode", "task 0", error="no answer"),
        sung(float("nan")),
        sung(1.0, 1.0),
    ],
    ids=["silent", "nan", "another shape"],
)
def test_a_node_without_a_comparable_answer_is_outside(answer: Sung) -> None:
    checks = compare_canaries([node("a", AVX512, sung(1.0)), node("b", AVX2, answer)], LIMITS)
    assert canary_labels(checks) == {"a": "reference", "b": "outside"}


def test_one_check_outside_is_enough() -> None:
    first = node("a", AVX512, sung(1.0), sung(0.5, kind="decision"))
    other = node("b", AVX2, sung(1.0), sung(0.9, kind="decision"))
    assert canary_labels(compare_canaries([first, other], LIMITS))["b"] == "outside"
