"""The largest delay that a policy stands, on simulated response curves and against a dense grid."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.delay_limit import largest_delay

N, LONGEST, MARGIN = 400, 30, 0.03


class Policy:
    """Each episode stands so much delay, and some flip for no reason: success falls as a logistic curve."""

    def __init__(self, seed: int, middle: float, width: float, plateau: float = 0.95, flips: float = 0.01) -> None:
        """Draw the episodes."""
        rng = np.random.default_rng(seed)
        self.stands = middle + width * rng.logistic(size=N)
        self.able = rng.random(N) < plateau
        self.flips = rng.random((LONGEST + 2, N)) < flips
        self.played: dict[int, int] = {}

    def solved(self, steps: int) -> np.ndarray:
        held = self.able & ((self.stands > steps) | (steps == 0))
        return held ^ (self.flips[steps] & (steps > 0))

    def ask(self, steps: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        self.played[steps] = max(self.played.get(steps, 0), n)
        return self.solved(0)[:n], self.solved(steps)[:n]

    def dense(self) -> int:
        """What a grid over every delay answers: the last delay before the drop passes the margin."""
        drops = [self.solved(0).mean() - self.solved(steps).mean() for steps in range(1, LONGEST + 1)]
        beyond = np.flatnonzero(np.maximum.accumulate(drops) > MARGIN)
        return int(beyond[0]) if beyond.size else LONGEST


def curves() -> list[Policy]:
    rng = np.random.default_rng(1)
    return [Policy(seed, rng.uniform(4, 24), rng.uniform(0.3, 2.0)) for seed in range(20)]


def test_bisection_answers_what_a_dense_grid_does_with_a_third_of_its_episodes() -> None:
    near = 0
    for policy in curves():
        found = largest_delay(policy.ask, LONGEST, N, MARGIN)
        near += abs(found.steps - policy.dense()) <= 1
        assert N + sum(policy.played.values()) <= (LONGEST + 1) * N / 3
        assert found.episodes == N + sum(policy.played.values())
    assert near >= 18


def test_a_delay_that_is_surely_too_long_gets_no_more_episodes_than_it_takes_to_see() -> None:
    policy = Policy(0, 8, 0.2)
    largest_delay(policy.ask, LONGEST, N, MARGIN)
    assert policy.played[15] == N // 4


@pytest.mark.parametrize(("middle", "steps", "high"), [(-1e3, 0, 0), (1e3, LONGEST, None)])
def test_a_policy_may_stand_nothing_or_everything(middle: float, steps: int, high: int | None) -> None:
    found = largest_delay(Policy(0, middle, 0.5, flips=0.0).ask, LONGEST, N, MARGIN)
    assert (found.steps, found.high) == (steps, high)
    assert found.low == steps


def test_the_interval_holds_the_answer() -> None:
    for policy in curves():
        found = largest_delay(policy.ask, LONGEST, N, MARGIN)
        assert found.low <= found.steps <= (LONGEST if found.high is None else found.high)


def test_more_success_under_a_longer_delay_is_warned_of() -> None:
    def ask(steps: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        good = np.ones(n, dtype=bool)
        worse = np.arange(n) % 10 != 0
        return good, {4: worse, 2: good & (np.arange(n) % 2 == 0)}.get(steps, worse)

    found = largest_delay(ask, 7, 200, 0.03)
    assert any("not monotone in delay: 4 steps" in warning for warning in found.warnings)
    assert largest_delay(Policy(0, 8, 0.2, flips=0.0).ask, LONGEST, N, MARGIN).warnings == ()
