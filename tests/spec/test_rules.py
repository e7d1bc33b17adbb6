"""Gate rules: what is refused, and how alpha is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import SpecError
from harness.spec.resolve import names
from harness.spec.rules import DEFAULT_RULES, GateRules, load_rules

SUCCESS = {"margin": 0.03}


@pytest.mark.parametrize("name", sorted(names("gates")))
def test_shipped_rules_load_and_share_out_no_more_than_alpha(name: str) -> None:
    rules = load_rules(name)
    assert rules.name == name
    assert sum(rules.alpha_of(rule) for rule in rules.alarms) == pytest.approx(rules.alpha)


def test_without_a_name_the_default_rules_apply() -> None:
    assert load_rules(None) is DEFAULT_RULES


def test_a_stated_alpha_is_kept_and_the_rest_is_shared() -> None:
    rules = GateRules.model_validate(
        {"success": {"margin": 0.03, "alpha": 0.03}, "per_task": {"cliff": 0.3}, "too_good": {}}
    )
    assert [rules.alpha_of(rule) for rule in rules.alarms] == pytest.approx([0.03, 0.01, 0.01])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, "demand nothing"),
        ({"errors": {"max_rate": 0.1}}, "demand nothing"),
        ({"sucess": SUCCESS}, "did you mean 'success'"),
        ({"success": {"margin": 3}}, "less than 1"),
        ({"success": {"margin": 0.1}, "per_task": {"cliff": 0.05}}, "cliff 0.05 is below success.margin 0.1"),
        ({"design": "sequential", "budgets": [{"hz": 10}]}, "only a success rule or a score rule can stop"),
        ({"success": {"margin": 0.03, "alpha": 0.1}}, "more than the gate's alpha"),
        ({"success": {"margin": 0.03, "alpha": 0.05}, "too_good": {}}, "none is left"),
        ({"budgets": [{"hz": 10, "max_ms": 90}]}, "either max_ms or hz"),
        ({"budgets": [{"component": "e2e"}]}, "either max_ms or hz"),
        ({"budgets": [{"hz": 10}, {"max_ms": 80}]}, "twice"),
        ({"latency": [{"max_ratio": 1.1}, {"max_ratio": 1.2}]}, "twice"),
        ({"budgets": [{"quantile": 0.5, "max_ms": 90}, {"quantile": 0.99, "max_ms": 80}]}, "never limits anything"),
        ({"memory": {}}, "neither max_ratio nor max_gib"),
        ({"latency": [{"component": "brain", "max_ratio": 1.1}]}, "e2e"),
        ({"success": SUCCESS, "looks": 5}, "looks is 5, but design is fixed"),
        ({"success": SUCCESS, "looks": 5, "design": "anytime"}, "looks is 5, but design is anytime"),
        ({"success": SUCCESS, "looks": 10_000, "design": "sequential"}, "less than or equal to 100"),
        ({"budgets": [{"hz": 10}], "pairs": {"min": 50}}, "pairs is about episodes"),
        ({"success": SUCCESS, "per_task": {"cliff": 0.5}, "cluster": "task"}, "one cluster shows nothing"),
        ({"memory": {"max_gib": 4, "hardware": "orin"}}, "memory.hardware belongs to max_ratio"),
        ({"energy": {}}, "neither max_j nor max_ratio"),
        ({"energy": {"max_j": 1, "source": "any"}}, "belong to max_ratio"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(tmp_path: Path, rules: dict[str, Any], message: str) -> None:
    import yaml

    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules))
    with pytest.raises(SpecError, match=message):
        load_rules(path)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(Exception, match="Did you mean 'nightly'"):
        load_rules("nigthly")
