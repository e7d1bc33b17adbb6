"""What a run recorded of its policies, and which of its variants are naive single steps."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from harness.analysis.origin import naive_single_steps, policy_records


@pytest.mark.parametrize(
    ("record", "naive"),
    [
        ({"default_nfe": 10}, True),
        ({"default_nfe": 1}, False),
        ({"default_nfe": None}, False),
        ({}, False),
        ({"default_nfe": 1, "provenance": {"stored_nfe": "10"}}, True),
        ({"default_nfe": 10, "provenance": {"stored_nfe": "1"}}, False),
        ({"default_nfe": 1, "provenance": {"stored_nfe": "10", "snapflow": "checkpoint"}}, False),
        ({"default_nfe": 1, "provenance": {"stored_nfe": "10", "snapflow": "zero initialisation"}}, True),
    ],
)
def test_a_multi_step_policy_with_one_step_and_no_trained_head_is_naive(record, naive):
    variants = [("p", 1), ("p", 10), ("p", pd.NA), ("other", 1)]
    assert naive_single_steps({"p": record}, variants) == ({("p", 1)} if naive else frozenset())


def test_the_last_run_that_recorded_a_policy_counts_and_old_ledgers_hold_nothing():
    texts = [json.dumps({"a": {"default_nfe": 10}, "b": {}}), None, json.dumps({"a": {"default_nfe": 1}})]
    assert policy_records(pd.DataFrame({"policies": texts})) == {"a": {"default_nfe": 1}}
    assert policy_records(pd.DataFrame({"policies": [None]}, dtype=object)) == {}
