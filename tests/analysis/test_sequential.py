"""Evidence that may be looked at after every episode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.paired.sequential import (
    FRACTIONS,
    anytime_p,
    log_evidence_above,
    log_evidence_below,
    lower_sequence_bound,
)
from harness.analysis.paired.statistics import PairCounts


def expected_factor(bound: float, q_lost: float, q_gained: float) -> float:
    """Mean of the capital after one pair."""
    capital = [np.exp(log_evidence_above(g, lost, 1, bound)) for g, lost in ((1, 0), (0, 1), (0, 0))]
    return float(np.dot(capital, [q_gained, q_lost, 1 - q_gained - q_lost]))


@given(q=st.tuples(st.floats(0, 1), st.floats(0, 1)), slack=st.floats(0, 0.5))
def test_a_bet_never_gains_on_average_under_the_null(q: tuple[float, float], slack: float) -> None:
    q_lost, q_gained = q[0] / 2, q[1] / 2
    bound = min(q_gained - q_lost + slack, 0.999)
    assert expected_factor(bound, q_lost, q_gained) <= 1 + 1e-9


def test_evidence_is_the_mixture_of_its_bets() -> None:
    pairs = [-1, 0, 0, 1, -1, -1]
    by_hand = np.mean([np.prod([1 - f * x for x in pairs]) for f in FRACTIONS])
    assert float(np.exp(log_evidence_below(1, 3, 6, 0.0))) == pytest.approx(by_hand)


def test_concordant_pairs_say_nothing_about_any_drop_but_much_about_a_margin() -> None:
    assert float(log_evidence_below(0, 0, 1000, 0.0)) == pytest.approx(0.0)
    assert float(log_evidence_above(0, 0, 1000, -0.03)) > np.log(1e6)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_looking_after_every_episode_keeps_the_false_alarm_rate(rate: float) -> None:
    rng = np.random.default_rng(11)
    outcomes = rng.choice([-1, 0, 1], p=[rate / 2, 1 - rate, rate / 2], size=(2000, 1000))
    lost, gained = np.cumsum(outcomes < 0, axis=1), np.cumsum(outcomes > 0, axis=1)
    evidence = log_evidence_below(gained, lost, np.arange(1, 1001), 0.0)
    assert (evidence >= np.log(1 / 0.05)).any(axis=1).mean() <= 0.05


@given(gained=st.integers(0, 50), lost=st.integers(0, 50), same=st.integers(0, 500))
def test_bounds_agree_with_the_evidence_they_invert(gained: int, lost: int, same: int) -> None:
    bound = lower_sequence_bound(PairCounts(same, lost, gained, 0), 0.05)
    assert -1 <= bound < 1
    if bound > -1 + 1e-6:
        n = same + lost + gained
        assert float(log_evidence_above(gained, lost, n, bound - 1e-6)) >= np.log(20)
        assert float(log_evidence_above(gained, lost, n, min(bound + 1e-6, 0.9999))) < np.log(20) + 1e-3


def test_anytime_p_values_are_probabilities() -> None:
    assert anytime_p([-3.0, 0.0, np.log(20)]) == pytest.approx([1.0, 1.0, 0.05])
