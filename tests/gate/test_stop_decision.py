"""When the controller may drop what is queued."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import UsageError
from harness.gate import PairOutcome, Verdict, decide_stop
from harness.spec.rules import GateRules, SuccessRule, TaskRule

RULES = GateRules(design="sequential", success=SuccessRule(margin=0.03))


def pairs(text: str, tasks: int = 10) -> list[PairOutcome]:
    """'=' both succeeded, 'l' lost, 'g' gained, '!' the candidate had an error."""
    table: dict[str, tuple[bool, bool | None]] = {
        "=": (True, True),
        "l": (True, False),
        "g": (False, True),
        "!": (True, None),
    }
    return [PairOutcome(f"task {place % tasks}", *table[letter]) for place, letter in enumerate(text)]


def test_agreement_passes_after_a_while_and_not_before() -> None:
    early, late = decide_stop(pairs("=" * 100), RULES), decide_stop(pairs("=" * 180), RULES)
    assert (early.stop, early.verdict) == (False, Verdict.INCONCLUSIVE)
    assert early.needed_more is not None
    assert 50 < early.needed_more < 80
    assert (late.stop, late.verdict, late.needed_more) == (True, Verdict.PASS, None)


def test_losses_fail_as_soon_as_they_are_certain() -> None:
    decision = decide_stop(pairs("=" * 60 + "l" * 8), RULES)
    assert (decision.stop, decision.verdict) == (True, Verdict.FAIL)
    assert "a real drop" in decision.reason


def test_nothing_is_decided_on_fewer_pairs_than_the_rules_want() -> None:
    assert not decide_stop(pairs("l" * 15), RULES).stop
    assert decide_stop([], RULES).verdict is Verdict.INCONCLUSIVE


def test_errors_that_would_decide_keep_the_run_going() -> None:
    assert decide_stop(pairs("=" * 200), RULES).stop
    assert not decide_stop(pairs("=" * 200 + "!" * 12), RULES).stop


def test_a_pass_waits_until_every_rule_can_be_judged() -> None:
    rules = GateRules(design="sequential", success=SuccessRule(margin=0.03), per_task=TaskRule(cliff=0.3, min_pairs=5))
    assert not decide_stop(pairs("=" * 160, tasks=100), rules).stop
    assert decide_stop(pairs("=" * 200, tasks=10), rules).stop


def test_rules_of_fixed_design_are_refused() -> None:
    with pytest.raises(UsageError, match="fixed design"):
        decide_stop([], GateRules(success=SuccessRule(margin=0.03)))


def test_the_same_pairs_give_the_same_decision_in_any_order() -> None:
    outcomes = pairs("=" * 120 + "l" * 4 + "g" * 2)
    shuffled = [outcomes[place] for place in np.random.default_rng(0).permutation(len(outcomes))]
    assert decide_stop(outcomes, RULES) == decide_stop(shuffled, RULES)


@pytest.mark.parametrize("discordance", [0.004, 0.04])
def test_looking_after_every_pair_keeps_false_alarms_below_alpha(discordance: float) -> None:
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(25):
        letters = rng.choice(list("=lg"), p=[1 - discordance, discordance / 2, discordance / 2], size=300)
        decisions = [decide_stop(pairs("".join(letters[:n])), RULES) for n in range(60, 301, 60)]
        first = next((decision for decision in decisions if decision.stop), None)
        alarms += first is not None and first.verdict is Verdict.FAIL
    assert alarms <= 4
