"""Specification of quantisation as an axis of a suite: each policy that has it becomes one policy per value."""

from __future__ import annotations

import pytest

from harness.cli.values import parse_quantize
from harness.errors import HarnessError
from harness.spec.changes import SuiteChanges
from harness.spec.policy import PolicySpec, parse_policy
from harness.spec.resolve import parse
from harness.spec.suite import Suite

TASKS = {"name": "s", "description": "d", "protocol": "lerobot", "tasks": [{"suite": "libero_spatial"}]}


def labels(policies: list[object], quantize: list[str]) -> list[str]:
    suite = parse(Suite, {**TASKS, "policies": policies, "quantize": quantize}, "test")
    again = parse(Suite, suite.model_dump(), "test")
    assert again == suite, "what a ledger records of a suite reads back as the same suite"
    return [spec.label for spec in suite.policies]


def test_each_value_is_a_policy_whose_name_says_so_and_policies_without_run_beside_them() -> None:
    assert labels(["flow", "noop"], ["none", "int8", "int8-activations"]) == [
        "flow",
        "flow?quantize=int8",
        "flow?quantize=int8-activations",
        "noop",
    ]


def test_what_a_policy_says_itself_stays_and_a_name_of_one_s_own_tells_its_variants_apart() -> None:
    own = {"kind": "lerobot", "path": "me/mine", "label": "mine"}
    assert labels([own, "flow?quantize=int8"], ["int8"]) == ["mine [quantize=int8]", "flow?quantize=int8"]
    assert labels([own], ["none", "int8"]) == ["mine", "mine [quantize=int8]"]


def test_without_the_axis_policies_stay_as_they_are() -> None:
    assert labels(["flow", "flow?quantize=int8"], []) == ["flow", "flow?quantize=int8"]


def test_the_command_line_s_axis_and_policies_replace_the_suite_s() -> None:
    suite = parse(Suite, {**TASKS, "policies": ["flow"], "quantize": ["int8"]}, "test")
    changed = SuiteChanges((parse_policy("flow:student"),), quantize=("none",)).apply(suite)
    assert changed.policies == (PolicySpec(kind="flow", path="student"),)


def test_an_axis_that_no_policy_has_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"none of the policies can be quantised \(flow, lerobot can\)"):
        labels(["noop"], ["int8"])


@pytest.mark.parametrize(("text", "said"), [("int9", "'int9'.*int8"), ("int8,int8", "names a value twice")])
def test_a_value_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        parse_quantize(text)
