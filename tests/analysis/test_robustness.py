"""What a perturbation costs, by hand-counted pairs."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.analysis.paired.statistics import PairCounts, difference_interval
from harness.analysis.robustness import robustness


def rows(suite: str, task: str, outcomes: str, policy: str = "flow", first: int = 0) -> list[dict]:
    """Episodes of one task: "1" solved, "0" not, "e" an error."""
    names = {"1": "success", "0": "timeout", "e": "error"}
    same = {"policy_id": policy, "nfe": 10, "clock": "synchronous", "latency_source": None, "trial": 0}
    return [
        {**same, "suite": suite, "task": task, "init_state_id": first + i, "outcome": names[mark]}
        for i, mark in enumerate(outcomes)
    ]


def frame(*parts: list[dict]) -> pd.DataFrame:
    return pd.DataFrame([row for part in parts for row in part]).astype({"nfe": "Int32"})


def test_libero_pro_pairs_with_its_base_by_task_init_state_and_trial():
    table = robustness(
        frame(
            rows("libero_goal", "a", "11110"),
            rows("libero_goal", "b", "1100"),
            rows("libero_goal_swap", "a", "0101e"),
            rows("libero_goal_swap", "b", "1111"),
            rows("libero_goal_swap", "c", "0000"),  # no partner
            rows("libero_goal_lan", "a", "11110"),
        )
    )
    whole = table[table["task"].isna()].set_index("perturbation")
    swap = whole.loc["swap"]
    assert (swap["n"], swap["lost"], swap["gained"]) == (8, 2, 2)
    assert (swap["base_rate"], swap["rate"], swap["difference"]) == (6 / 8, 6 / 8, 0)
    assert whole.loc["lan", "difference"] == 0
    task = table[table["perturbation"] == "swap"].set_index("task").loc["a"]
    assert (task["n"], task["lost"], task["gained"], task["difference"]) == (4, 2, 0, -0.5)
    assert (task["low"], task["high"]) == pytest.approx(difference_interval(PairCounts(2, 2, 0, 0)))
    assert set(table["task"].dropna()) == {"a", "b"}


def test_a_policy_is_compared_with_itself_alone():
    mixed = frame(rows("libero_goal", "a", "1111", "one"), rows("libero_goal_swap", "a", "0000", "other"))
    assert robustness(mixed).empty


def test_libero_plus_is_set_beside_its_base_task_by_category():
    plain = frame(rows("libero_goal", "open_it", "1110"), rows("libero_goal", "push_it", "1111"))
    varied = frame(
        rows("libero_goal", "open_it_light_3", "0"),
        rows("libero_goal", "open_it_light_4", "1"),
        rows("libero_goal", "push_it_view_0_0_100_0_0_initstate_0", "0"),
        rows("libero_goal", "push_it_view_0_0_100_0_0_initstate_0_noise_2", "0"),
    )
    table = robustness(pd.concat([plain, varied]), {"push_it_view_0_0_100_0_0_initstate_0": "Camera Viewpoints"})
    whole = table[table["task"].isna()].set_index("perturbation")
    assert sorted(whole.index) == ["Camera Viewpoints", "Light Conditions", "Sensor Noise"]
    assert (whole.loc["Light Conditions", "n"], whole.loc["Light Conditions", "rate"]) == (2, 0.5)
    assert whole.loc["Light Conditions", "difference"] == pytest.approx(0.5 - 0.75)
    assert whole.loc["Camera Viewpoints", "difference"] == -1
    assert whole["low"].isna().all()


def test_a_ledger_without_perturbations_has_no_table():
    assert robustness(frame(rows("libero_goal", "a", "10"))).empty
    assert robustness(frame(rows("libero_goal_swap", "a", "10"))).empty
