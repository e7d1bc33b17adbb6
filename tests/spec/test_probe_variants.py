"""Specification of how a probe's axes become variants, each with the reference it is compared with."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import HarnessError
from harness.spec.policy import PolicySpec, parse_policy
from harness.spec.resolve import parse
from harness.spec.suite import ProbePlan
from harness.spec.variants import variants

PI05 = parse_policy("lerobot:pi05?weights=random")


def test_without_axes_a_policy_is_probed_as_it_is_written() -> None:
    policy = parse_policy("flow?seed=3")
    (only,) = variants([policy], {})
    assert (only.spec, only.text, only.reference) == (policy, "", policy)


def test_every_combination_is_a_variant_and_none_leaves_an_option_out() -> None:
    found = variants([PI05], {"dtype": [None, "bfloat16"], "compile": [None, "default"]})
    assert [variant.text for variant in found] == [
        "",
        "compile=default",
        "dtype=bfloat16",
        "dtype=bfloat16,compile=default",
    ]
    assert {variant.reference.text for variant in found} == {PI05.text}
    assert len({variant.spec.label for variant in found}) == 4


def test_the_reference_of_a_policy_written_as_a_variant_runs_eagerly_in_the_checkpoint_s_dtype() -> None:
    policy = parse_policy("lerobot:pi05?weights=random&dtype=bfloat16&graphs=true&seed=2")
    (only,) = variants([policy], {})
    assert only.text == "dtype=bfloat16,graphs=true"
    assert only.reference.options == {"weights": "random", "seed": 2}


def test_what_changes_the_question_changes_the_reference_too() -> None:
    found = variants([PI05], {"cameras": [1, 2], "quantize": [None, "int8"]})
    assert [(v.reference.options["cameras"], v.text) for v in found] == [
        (1, ""),
        (2, ""),
        (1, "quantize=int8"),
        (2, "quantize=int8"),
    ]


def test_references_come_before_what_is_compared_with_them_and_repeats_are_probed_once() -> None:
    written = [parse_policy("lerobot:pi05?weights=random&quantize=int8"), PI05, PI05]
    assert [variant.text for variant in variants(written, {})] == ["", "quantize=int8"]


def test_a_name_of_the_user_s_own_tells_its_variants_apart() -> None:
    policy = PolicySpec(kind="lerobot", path="me/mine", label="mine", options={"dtype": "bfloat16"})
    found = variants([policy], {"graphs": [None, True]})
    assert [variant.spec.label for variant in found] == ["mine", "mine [graphs=true]"]
    assert found[0].reference.label == "mine [no dtype]"


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        ({"axes": {"dtype": []}}, "axes.dtype"),
        ({"prompt_words": [0]}, "prompt_words"),
        ({"process_per": "node"}, "process_per"),
        ({"components_every": 0}, "components_every"),
    ],
)
def test_an_axis_that_means_nothing_is_refused(plan: dict[str, Any], error: str) -> None:
    with pytest.raises(HarnessError, match=error):
        parse(ProbePlan, {"policies": ["flow"], **plan}, "plan")
