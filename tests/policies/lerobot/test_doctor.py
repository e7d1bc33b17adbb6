"""The doctor names what is wrong with a LeRobot checkpoint too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.doctor.check import CheckStatus
from harness.doctor.expectations import ask, make_expectations
from harness.doctor.observations import load_observations
from harness.doctor.policy_checks import check_policy, expected_answers


def test_faults_of_a_lerobot_checkpoint_are_named(save, load) -> None:
    policy = load(save("pi05", size=256))
    expectations = make_expectations(policy)
    weights, answers, *_ = check_policy(policy, expectations)
    assert (weights.status, answers.status) == (CheckStatus.OK, CheckStatus.OK)

    seen = load_observations()
    # The checkpoint's own keys the wrong way round.
    policy.reader.cameras = dict(zip(policy.reader.cameras, reversed(policy.reader.cameras.values()), strict=True))
    swapped = expected_answers(policy, ask(policy, seen), expectations)
    policy.reader.cameras = dict(zip(policy.reader.cameras, reversed(policy.reader.cameras.values()), strict=True))
    raw = [
        replace(each, images={c: np.ascontiguousarray(f[::-1, ::-1]) for c, f in each.images.items()}) for each in seen
    ]
    turned = expected_answers(policy, ask(policy, raw), expectations)
    # Postprocessing left out: the network's own units.
    policy.processors = replace(policy.processors, post=lambda chunk: chunk)
    bare = expected_answers(policy, ask(policy, seen), expectations)
    assert [check.found.partition(":")[0] for check in (swapped, turned, bare)] == [
        "cameras swapped",
        "images upside down (turned by 180 degrees)",
        "unnormalised actions",
    ]
