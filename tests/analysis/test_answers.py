"""Which policy is better, as far as episodes tell."""

from __future__ import annotations

import pandas as pd

from harness.analysis.answers import success_answers
from harness.analysis.paired.within import paired_variants


def episodes(solved: dict[str, list[bool]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"policy_id": policy, "nfe": None, "clock": "synchronous", "latency_source": None, "suite": "s"}
            | {"episode_key": str(place), "outcome": "success" if done else "timeout"}
            for policy, outcomes in solved.items()
            for place, done in enumerate(outcomes)
        ]
    )


def test_a_clear_difference_is_decided_and_an_open_one_needs_more_pairs_than_there_are() -> None:
    n = 60
    paired = paired_variants(
        episodes(
            {
                "bad": [False] * 40 + [True] * 20,
                "good": [True] * n,
                "nearly": [True] * (n - 2) + [False] * 2,
                "noop": [False] * n,
            }
        )
    )
    found = success_answers(paired, {"noop"})
    assert "noop" not in {*found["policy_id"], *found["base_policy_id"]}
    assert found["decided"].tolist() == [True, True, False]
    assert found["needed"].isna().tolist() == [True, True, False]
    assert found["needed"].iloc[2] > n
