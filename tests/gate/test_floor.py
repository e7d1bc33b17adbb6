"""The floor of a gate: the candidate's own rate, by the gate's design and sampling unit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.analysis.paired.pairing import ERROR, SUCCESS, TIMEOUT
from harness.gate import Verdict
from harness.gate.pairs import PairTable
from harness.gate.stopping import decide_look
from harness.gate.success import judge_floor, judge_success
from harness.spec.rules import FloorRule, GateRules, SuccessRule

FLOOR = FloorRule(min_rate=0.9)
ALPHA = 0.05


def alone(outcomes: np.ndarray, **columns: object) -> PairTable:
    codes = np.asarray(outcomes, dtype=np.int8)
    return PairTable(["task"], np.zeros(codes.size, dtype=np.int64), codes, codes, **columns)  # type: ignore[arg-type]


def solved(good: int, bad: int, errors: int = 0) -> np.ndarray:
    return np.repeat([SUCCESS, TIMEOUT, ERROR], [good, bad, errors])


def of_states(rates: np.ndarray, trials: int) -> PairTable:
    """As many init states as rates, each of which is always solved or never."""
    return alone(np.repeat(np.where(rates, SUCCESS, TIMEOUT), trials), cluster=np.repeat(np.arange(rates.size), trials))


@pytest.mark.parametrize(("good", "bad"), [(100, 0), (95, 5), (96, 4), (84, 16), (83, 17)])
def test_one_look_at_independent_episodes_is_the_exact_binomial_test(good: int, bad: int) -> None:
    n = good + bad
    reaches, misses = stats.binom.sf(good - 1, n, 0.9) <= ALPHA, stats.binom.cdf(good, n, 0.9) < ALPHA
    expected = Verdict.PASS if reaches else Verdict.FAIL if misses else Verdict.INCONCLUSIVE
    assert judge_floor(alone(solved(good, bad)), FLOOR, ALPHA, ALPHA).verdict is expected


@pytest.mark.parametrize(
    ("good", "bad", "errors", "expected"), [(97, 1, 2, "PASS"), (98, 0, 10, "INCONCLUSIVE"), (60, 30, 10, "FAIL")]
)
def test_errors_are_failures_for_a_pass_and_successes_for_a_fail(
    good: int, bad: int, errors: int, expected: str
) -> None:
    assert judge_floor(alone(solved(good, bad, errors)), FLOOR, ALPHA, ALPHA).verdict.value == expected


def test_ten_init_states_show_no_floor_of_90_percent_however_often_each_is_tried() -> None:
    # Were one in ten never solved, ten would all be others in 35 % of draws.
    assert judge_floor(of_states(np.ones(10), 10), FLOOR, ALPHA, ALPHA).verdict is Verdict.INCONCLUSIVE
    assert judge_floor(of_states(np.ones(50), 2), FLOOR, ALPHA, ALPHA).verdict is Verdict.PASS
    # Two of ten that are never solved come in 26 % of draws at 90 %.
    few = np.arange(10) >= 2
    assert judge_floor(of_states(few, 10), FLOOR, ALPHA, ALPHA).verdict is Verdict.INCONCLUSIVE
    assert judge_floor(of_states(np.arange(50) >= 20, 2), FLOOR, ALPHA, ALPHA).verdict is Verdict.FAIL


def test_looks_at_a_floor_spend_alpha_once_over_all_of_them() -> None:
    looks, each = 10, 40
    rng = np.random.default_rng(14)
    rules = GateRules(design="sequential", success=SuccessRule(margin=0.03), floor=FLOOR)
    plan = {"rounds": np.repeat(np.arange(looks), each), "planned": np.full((looks, 1), each)}
    nights = [np.where(rng.random(looks * each) < 0.9, SUCCESS, TIMEOUT) for _ in range(100)]
    found = [decide_look(alone(night, **plan), rules, looks).verdict for night in nights]
    # 5 % each at most; looks that take 5 % anew pass 11 of 100.
    assert found.count(Verdict.PASS) <= 6
    assert found.count(Verdict.FAIL) <= 3
    better = [np.where(rng.random(looks * each) < 0.97, SUCCESS, TIMEOUT) for _ in range(20)]
    assert sum(decide_look(alone(night, **plan), rules, looks).verdict is Verdict.PASS for night in better) >= 18


def test_a_floor_without_a_plan_holds_whenever_one_looks() -> None:
    rules = GateRules(design="anytime", success=SuccessRule(margin=0.03), floor=FLOOR)
    judged = [
        next(one.verdict for one in judge_success(alone(solved(good, n - good)), rules) if one.rule == "floor")
        for n, good in ((29, 29), (60, 59), (400, 400))
    ]
    # 29 of 29 exclude 90 % by one look at 5 %, not by a look after each of them.
    assert judged == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.PASS]
