"""The gate's verdicts on real ledgers: what passes, what fails, and what cannot be told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.paired.compare import Choice, compare
from harness.errors import LedgerError, UsageError
from harness.gate import GateResult, Verdict, gate
from harness.ledger import LedgerWriter, parts
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.report.gate.tables import latency_rows
from harness.spec.rules import (
    BudgetRule,
    EnergyRule,
    ErrorRule,
    FloorRule,
    GateRules,
    LatencyRule,
    MemoryRule,
    PairRule,
    SuccessRule,
    TaskRule,
    TooGoodRule,
)

SUCCESS = GateRules(success=SuccessRule(margin=0.03))
SEQUENTIAL = GateRules(design="sequential", success=SuccessRule(margin=0.03))


def verdicts(result: GateResult) -> dict[str, str]:
    return {found.rule: found.verdict.value for found in result.results}


def reason(result: GateResult, rule: str) -> str:
    return next(found.reason for found in result.results if found.rule == rule)


def samples(values: Any, component: str = "e2e", **columns: Any) -> list[dict[str, Any]]:
    row = {"hardware": "h100", "node_id": "n", "nfe": 10, "batch_size": 1, "component": component, **columns}
    return [{**row, "sample": place, "latency_ms": float(value)} for place, value in enumerate(values)]


def launched(
    median: float, spread: float = 0.01, n: int = 400, launches: int = 5, **columns: Any
) -> list[dict[str, Any]]:
    """Samples of several launches whose levels lie about a median, evenly by the spread."""
    levels = median * np.exp(spread * np.linspace(-1.3, 1.3, launches))
    return [
        row
        for launch, level in enumerate(levels)
        for row in samples(noise(level, n, seed=launch), launch=launch, **columns)
    ]


def noise(median: float, n: int = 2000, seed: int = 0) -> Any:
    return median * np.exp(0.05 * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize("rules", [SUCCESS, SEQUENTIAL], ids=["fixed", "sequential"])
def test_the_same_outcomes_pass(make_ledger: Any, rules: GateRules) -> None:
    outcomes = ["+" * 48 + "--"] * 10
    result = gate(make_ledger("base", outcomes), make_ledger("new", outcomes), rules)
    assert result.verdict is Verdict.PASS
    n = 500 if rules is SUCCESS else 250
    assert f"+0.0 points over {n} pairs" in reason(result, "success")


@pytest.mark.parametrize("rules", [SUCCESS, SEQUENTIAL], ids=["fixed", "sequential"])
def test_a_real_drop_fails(make_ledger: Any, rules: GateRules) -> None:
    result = gate(make_ledger("base", ["+" * 50] * 10), make_ledger("new", ["+" * 47 + "---"] * 10), rules)
    assert result.verdict is Verdict.FAIL
    assert result.verdict.exit_code == 1
    assert "a real drop" in reason(result, "success")


def test_twenty_against_nineteen_of_twenty_cannot_be_told(make_ledger: Any) -> None:
    result = gate(make_ledger("base", ["+" * 20]), make_ledger("new", ["+" * 19 + "-"]), SUCCESS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.verdict.exit_code == 2
    assert "about 71 more pairs would decide (91 in all)" in reason(result, "success")


def test_a_real_but_tolerated_drop_passes_and_says_so(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 1000] * 2), make_ledger("new", ["+" * 991 + "-" * 9] * 2)
    result = gate(base, new, SUCCESS)
    assert result.verdict is Verdict.PASS
    assert "a real drop" in reason(result, "success")
    assert "tolerated" in reason(result, "success")


def test_beyond_margin_waits_until_the_margin_is_passed(make_ledger: Any) -> None:
    strict = GateRules(success=SuccessRule(margin=0.03, fail_when="beyond_margin"))
    base = make_ledger("base", ["+" * 200])
    small, large = make_ledger("small", ["+" * 190 + "-" * 10]), make_ledger("large", ["+" * 170 + "-" * 30])
    assert gate(base, small, SUCCESS).verdict is Verdict.FAIL
    assert gate(base, small, strict).verdict is Verdict.INCONCLUSIVE
    assert gate(base, large, strict).verdict is Verdict.FAIL


def test_errors_that_would_decide_make_it_inconclusive(make_ledger: Any) -> None:
    base = make_ledger("base", ["+" * 50] * 10)
    new = make_ledger("new", ["+" * 47 + "!!!"] * 10)
    result = gate(base, new, SUCCESS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "Infrastructure errors decide it. Left out: PASS" in reason(result, "success")


def test_a_drop_holds_with_errors_either_way(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 50] * 10), make_ledger("new", ["+" * 44 + "-----!"] * 10)
    result = gate(base, new, SUCCESS)
    assert result.verdict is Verdict.FAIL
    assert "if 10 pairs with errors went as good for the candidate as they can" in reason(result, "success")


def test_all_errors_never_pass(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 30]), make_ledger("new", ["!" * 30])
    assert gate(base, new, SUCCESS).verdict is Verdict.INCONCLUSIVE
    with_rule = GateRules(success=SuccessRule(margin=0.03), errors=ErrorRule(max_rate=0.02))
    assert verdicts(gate(base, new, with_rule))["errors"] == "FAIL"


def test_a_few_errors_ask_for_a_resume_and_do_not_fail(make_ledger: Any) -> None:
    rules = GateRules(success=SuccessRule(margin=0.1), errors=ErrorRule(max_rate=0.0))
    outcomes = ["+" * 60]
    result = gate(make_ledger("base", outcomes), make_ledger("new", ["+" * 59 + "!"]), rules)
    assert verdicts(result)["errors"] in {"FAIL", "INCONCLUSIVE"}
    rules = GateRules(success=SuccessRule(margin=0.1), errors=ErrorRule(max_rate=0.01))
    result = gate(make_ledger("base2", outcomes), make_ledger("new2", ["+" * 59 + "!"]), rules)
    assert verdicts(result)["errors"] == "INCONCLUSIVE"
    assert "--resume" in reason(result, "errors")


def test_one_class_only_is_judged_by_the_number_of_pairs(make_ledger: Any) -> None:
    few = gate(make_ledger("a", ["+" * 98]), make_ledger("b", ["+" * 98]), SUCCESS)
    many = gate(make_ledger("c", ["+" * 99]), make_ledger("d", ["+" * 99]), SUCCESS)
    assert few.verdict is Verdict.INCONCLUSIVE
    assert many.verdict is Verdict.PASS, "(1 - 0.03) ** 99 < 0.05"


def test_what_cannot_drop_is_never_passed(make_ledger: Any) -> None:
    result = gate(make_ledger("a", ["-" * 500]), make_ledger("b", ["-" * 500]), SUCCESS)
    assert verdicts(result)["success"] == "INCONCLUSIVE"
    assert "The base solves 0 of 500" in reason(result, "success")
    floor = GateRules(success=SuccessRule(margin=0.03), floor=FloorRule(min_rate=0.5))
    assert gate(make_ledger("c", ["-" * 500]), make_ledger("d", ["-" * 500]), floor).verdict is Verdict.FAIL
    assert verdicts(gate(make_ledger("e", ["+" * 500]), make_ledger("f", ["+" * 500]), floor))["floor"] == "PASS"


def test_a_ledger_is_never_gated_against_itself_or_a_copy(make_ledger: Any, tmp_path: Path) -> None:
    base = make_ledger("base", ["+" * 100])
    shutil.copytree(base, tmp_path / "copy")
    for candidate in (base, tmp_path / "copy"):
        with pytest.raises(UsageError, match=r"share the run 'run-base'.*against itself"):
            gate(base, candidate, SUCCESS)


def test_a_probe_is_never_gated_against_a_copy_of_itself(make_ledger: Any, tmp_path: Path) -> None:
    base = make_ledger("base", [], latency=launched(10.0))
    shutil.copytree(base, tmp_path / "copy")
    ratio = GateRules(latency=(LatencyRule(max_ratio=1.1),))
    with pytest.raises(UsageError, match=r"share the run 'run-base'.*against itself"):
        gate(base, tmp_path / "copy", ratio)
    assert gate(base, make_ledger("again", [], latency=launched(10.0)), ratio).verdict is Verdict.PASS
    # A limit of the candidate's own is judged without a base.
    budget = GateRules(budgets=(BudgetRule(quantile=0.5, hz=10),))
    assert gate(base, tmp_path / "copy", budget).verdict is Verdict.PASS


def test_a_base_error_counts_as_a_success_that_the_candidate_may_have_lost(make_ledger: Any) -> None:
    result = gate(make_ledger("a", ["+" * 490 + "!" * 30]), make_ledger("b", ["+" * 490 + "-" * 30]), SUCCESS)
    assert "As bad for the candidate as they can have been: FAIL" in reason(result, "success")
    assert verdicts(result)["success"] == "INCONCLUSIVE"


def test_candidate_failures_without_a_partner_are_not_passed_over(make_ledger: Any) -> None:
    result = gate(make_ledger("a", ["+" * 200]), make_ledger("b", ["+" * 200, "-" * 350]), SUCCESS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "350 episodes of the candidate have no partner" in reason(result, "pairs")


def test_a_verdict_says_what_it_is_about(make_ledger: Any) -> None:
    base, new = make_ledger("a", ["+" * 100]), make_ledger("b", ["+" * 100])
    assert "pairs taken as independent" in reason(gate(base, new, SUCCESS), "pairs")
    clustered = GateRules(success=SuccessRule(margin=0.03), cluster="init_state")
    assert "verdicts are about init states like these" in reason(gate(base, new, clustered), "pairs")


def test_lost_init_states_count_once_each_when_they_are_the_sampling_unit(make_ledger: Any) -> None:
    # Three init states lost in each of ten trials: 30 lost episodes, but 1 chance in 8 that three coins fall alike.
    base, new = make_ledger("a", ["+" * 40]), make_ledger("b", ["+" * 37 + "---"])
    for path in (base, new):
        rows = read_rows(Location.of(path), "episodes")
        for trial in range(1, 10):
            again = [{**row, "trial": trial, "episode_key": f"{row['episode_key']}-{trial}"} for row in rows]
            LedgerWriter(path).append("episodes", again)
    clustered = GateRules(success=SuccessRule(margin=0.03), cluster="init_state")
    assert verdicts(gate(base, new, SUCCESS))["success"] == "FAIL"
    assert verdicts(gate(base, new, clustered))["success"] == "INCONCLUSIVE"
    assert "10 trials of an init state" in reason(gate(base, new, SUCCESS), "pairs")


def test_one_pair_and_no_pair_are_inconclusive(make_ledger: Any) -> None:
    one = gate(make_ledger("a", ["+"]), make_ledger("b", ["-"]), SUCCESS)
    none = gate(make_ledger("c", {0: "+++"}), make_ledger("d", {7: "---"}), SUCCESS)
    assert one.verdict is none.verdict is Verdict.INCONCLUSIVE
    assert "no episode in common" in reason(none, "pairs")


def test_missing_episodes_are_not_silently_ignored(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 500]), make_ledger("new", ["+" * 400])
    result = gate(base, new, SUCCESS)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "80.0%" in reason(result, "pairs")
    allowed = GateRules(success=SuccessRule(margin=0.03), pairs=PairRule(min_share=0.5))
    assert gate(base, new, allowed).verdict is Verdict.PASS


def test_duplicated_keys_count_once(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 20]), make_ledger("new", ["+" * 20])
    LedgerWriter(new).append("episodes", read_rows(Location.of(new), "episodes"))
    assert gate(base, new, SUCCESS).comparison.success[0].overall.counts.n == 20


def test_a_collapsed_task_fails_behind_a_good_average(make_ledger: Any) -> None:
    rules = GateRules(success=SuccessRule(margin=0.1), per_task=TaskRule(cliff=0.3))
    base, new = make_ledger("base", ["+" * 40] * 20), make_ledger("new", ["-" * 30 + "+" * 10, *["+" * 40] * 19])
    result = gate(base, new, rules)
    assert verdicts(result)["success"] == "PASS"
    assert verdicts(result)["per-task cliff"] == "FAIL"
    assert "libero_spatial task 0 (put bowl 0 on the plate) collapsed" in reason(result, "per-task cliff")


def test_a_cliff_that_may_be_chance_is_inconclusive(make_ledger: Any) -> None:
    rules = GateRules(per_task=TaskRule(cliff=0.3))
    result = gate(make_ledger("a", ["+" * 6] * 20), make_ledger("b", ["--++++", *["+" * 6] * 19]), rules)
    assert verdicts(result)["per-task cliff"] == "INCONCLUSIVE"


def test_tasks_with_too_few_pairs_are_never_passed(make_ledger: Any) -> None:
    rules = GateRules(per_task=TaskRule(cliff=0.3, min_pairs=5))
    result = gate(make_ledger("a", ["++"] * 20), make_ledger("b", ["++"] * 20), rules)
    assert verdicts(result)["per-task cliff"] == "INCONCLUSIVE"


def test_one_task_with_too_few_pairs_is_not_passed_behind_the_others(make_ledger: Any) -> None:
    """Four of four lost is no proof of a collapse, and no proof of none."""
    rules = GateRules(per_task=TaskRule(cliff=0.3))
    base, new = make_ledger("a", ["+" * 4, *["+" * 50] * 9]), make_ledger("b", ["-" * 4, *["+" * 50] * 9])
    result = gate(base, new, rules)
    assert verdicts(result)["per-task cliff"] == "INCONCLUSIVE"
    assert "task 0 (put bowl 0 on the plate) has fewer than 5 pairs" in reason(result, "per-task cliff")


def test_a_base_that_solves_nothing_has_no_task_to_collapse_and_passes_nothing(make_ledger: Any) -> None:
    rules = GateRules(per_task=TaskRule(cliff=0.3))
    result = gate(make_ledger("a", ["-" * 50] * 3), make_ledger("b", ["-" * 50] * 3), rules)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "solves nothing in 3 tasks" in reason(result, "per-task cliff")
    some = gate(make_ledger("c", ["-" * 50, "+" * 50]), make_ledger("d", ["-" * 50, "+" * 50]), rules)
    assert some.verdict is Verdict.PASS


@pytest.mark.parametrize(("verdict", "expected"), [("inconclusive", "INCONCLUSIVE"), ("fail", "FAIL")])
def test_a_rise_that_nobody_announced_sounds_the_alarm(make_ledger: Any, verdict: Any, expected: str) -> None:
    rules = GateRules(success=SuccessRule(margin=0.03), too_good=TooGoodRule(verdict=verdict))
    result = gate(make_ledger("a", ["+" * 256 + "-" * 44]), make_ledger("b", ["+" * 274 + "-" * 26]), rules)
    assert verdicts(result)["success"] == "PASS"
    assert verdicts(result)["too good"] == expected
    assert result.verdict.value == expected


def test_latency_within_the_margin_passes_beyond_it_fails_between_it_waits(make_ledger: Any) -> None:
    rules = GateRules(latency=(LatencyRule(quantile=0.5, max_ratio=1.1), LatencyRule(quantile=0.99, max_ratio=1.1)))
    base = make_ledger("base", ["+"], latency=launched(100))
    for name, median, expected in (("same", 101, "PASS"), ("slow", 125, "FAIL"), ("edge", 109, "INCONCLUSIVE")):
        new = make_ledger(name, ["+"], latency=launched(median))
        result = gate(base, new, rules)
        assert verdicts(result)["latency e2e p50"] == verdicts(result)["latency e2e p99"] == expected
    assert "5 and 5 launches" in reason(result, "latency e2e p50")
    assert "launches a side would decide" in reason(result, "latency e2e p50")
    few = make_ledger("few", ["+"], latency=launched(100, n=50))
    assert verdicts(gate(base, few, rules))["latency e2e p50"] == "PASS"
    assert verdicts(gate(base, few, rules))["latency e2e p99"] == "INCONCLUSIVE"
    assert "a launch of 50 samples has no p99; 100 would tell" in reason(gate(base, few, rules), "latency e2e p99")


def test_samples_of_one_launch_decide_nothing_near_a_limit_however_many_they_are(make_ledger: Any) -> None:
    rules = GateRules(latency=(LatencyRule(quantile=0.5, max_ratio=1.1),))
    base = make_ledger("base", [], latency=samples(noise(100, 20_000)))
    for name, median, expected in (("same", 100, "INCONCLUSIVE"), ("faster", 90, "PASS"), ("slow", 140, "FAIL")):
        new = make_ledger(name, [], latency=samples(noise(median, 20_000, seed=1)))
        result = gate(base, new, rules)
        assert verdicts(result)["latency e2e p50"] == expected
        assert "within one process" in reason(result, "latency e2e p50")


def test_launches_that_differ_are_not_told_apart_by_their_samples(make_ledger: Any) -> None:
    """Two sides whose launches differ by 4 %: more samples a launch change nothing, more launches would."""
    rules = GateRules(latency=(LatencyRule(quantile=0.5, max_ratio=1.03),))
    base, new = (make_ledger(name, [], latency=launched(100, 0.04, n=5000)) for name in ("base", "new"))
    result = gate(base, new, rules)
    assert verdicts(result)["latency e2e p50"] == "INCONCLUSIVE"
    assert "launches differ by 4.2 % and 4.2 %; if that stays so, 12 launches a side would decide" in reason(
        result, "latency e2e p50"
    )


@pytest.mark.parametrize(("part", "launches"), [("second", 31), ("slowed", 201)])
def test_a_verdict_on_eager_launches_of_an_h100_says_how_many_would_decide(part: str, launches: int) -> None:
    sittings = Path(__file__).parents[2] / "reports" / "examples" / "h100-run" / "sittings"
    result = gate(sittings / "first", sittings / part, GateRules(latency=(LatencyRule(max_ratio=1.03),)))
    assert f"{launches} launches a side would decide" in reason(result, "latency e2e p50")


def test_a_quantile_is_judged_where_the_base_s_own_launches_can_tell_and_reported_elsewhere(make_ledger: Any) -> None:
    rules = GateRules(
        latency=(LatencyRule(max_ratio=1.1), LatencyRule(quantile=0.99, max_ratio=1.25, when="decidable"))
    )
    for spread, slow, expected in ((0.02, 1.0, "PASS"), (0.02, 1.5, "FAIL"), (0.2, 1.0, "reported")):
        base = make_ledger(f"base {spread} {slow}", [], latency=launched(100, spread))
        new = make_ledger(f"new {spread} {slow}", [], latency=launched(100 * slow, spread))
        (found,) = [one for one in gate(base, new, rules).results if one.rule == "latency e2e p99"]
        assert found.shown == expected
        assert found.verdict is not Verdict.PASS or expected == "PASS", "what is not judged is no PASS"
    assert found.reason.startswith("Reported, not judged: the base cannot tell 1.25 from 1 (its launches differ by ")
    # What is only reported neither passes nor fails anything.
    only = GateRules(latency=(LatencyRule(quantile=0.99, max_ratio=1.25, when="decidable"),))
    assert gate(base, new, only).verdict is Verdict.INCONCLUSIVE


def test_two_machines_are_compared_only_by_whoever_says_so(make_ledger: Any) -> None:
    base = make_ledger("base", ["+"], latency=launched(54, memory_bytes=2**30))
    new = make_ledger("new", ["+"], latency=launched(20, memory_bytes=2**30, hardware="orin"))
    strict = GateRules(latency=(LatencyRule(max_ratio=1.1),), memory=MemoryRule(max_ratio=1.1))
    result = gate(base, new, strict)
    assert set(verdicts(result).values()) == {"INCONCLUSIVE"}
    for rule in ("latency e2e p50", "memory"):
        assert "h100 (base) and of orin (candidate) are not compared" in reason(result, rule)
    told = GateRules(
        latency=(LatencyRule(max_ratio=1.1, hardware="any"),), memory=MemoryRule(max_ratio=1.1, hardware="any")
    )
    result = gate(base, new, told)
    assert set(verdicts(result).values()) == {"PASS"}
    assert "h100 → orin" in reason(result, "latency e2e p50")


@pytest.mark.parametrize("kind", ["latency", "budgets", "memory", "energy"])
def test_a_rule_about_a_machine_that_nobody_knows_is_a_mistake(make_ledger: Any, kind: str) -> None:
    """A typo would leave the rule undecided for ever."""
    limit = {"latency": {"max_ratio": 2}, "budgets": {"hz": 1}, "memory": {"max_ratio": 2}, "energy": {"max_j": 9}}[
        kind
    ]

    def rules(hardware: str) -> GateRules:
        stated = {**limit, "hardware": hardware}
        return GateRules.model_validate({kind: [stated] if kind in ("latency", "budgets") else stated})

    columns = {"energy_j": 1.0, "memory_bytes": 2**30}
    base, new = (make_ledger(name, {}, latency=launched(10, **columns)) for name in ("base", "new"))
    with pytest.raises(UsageError, match="'none'"):
        gate(base, new, rules("none"))
    assert gate(base, new, rules("h100")).verdict is Verdict.PASS
    assert gate(base, new, rules("a100-sxm-80gb")).verdict is Verdict.INCONCLUSIVE, "known, and not measured here"


def test_ten_hertz_is_a_budget_of_100_ms_for_p99(make_ledger: Any) -> None:
    rules = GateRules(budgets=(BudgetRule(hz=10),))
    base = make_ledger("base", ["+"], latency=launched(50))
    for name, median, expected in (("ok", 70, "PASS"), ("late", 99, "FAIL")):
        new = make_ledger(name, ["+"], latency=launched(median))
        assert verdicts(gate(base, new, rules))["budget e2e p99"] == expected


def test_a_slow_device_fails_among_fast_ones(make_ledger: Any) -> None:
    rules = GateRules(budgets=(BudgetRule(max_ms=100, quantile=0.5),))
    both = [*samples(noise(50)), *samples(noise(200), hardware="orin")]
    result = gate(make_ledger("a", ["+"], latency=both), make_ledger("b", ["+"], latency=both), rules)
    assert verdicts(result)["budget e2e p50"] == "FAIL"
    assert "orin" in reason(result, "budget e2e p50")
    only = GateRules(budgets=(BudgetRule(max_ms=100, quantile=0.5, hardware="h100"),))
    assert gate(result.comparison.base, result.comparison.candidate, only).verdict is Verdict.PASS


def test_what_was_not_measured_is_never_passed(make_ledger: Any) -> None:
    rules = GateRules(
        latency=(LatencyRule(max_ratio=1.1),), budgets=(BudgetRule(hz=10),), memory=MemoryRule(max_ratio=1.1)
    )
    result = gate(make_ledger("a", ["+"]), make_ledger("b", ["+"]), rules)
    assert set(verdicts(result).values()) == {"INCONCLUSIVE"}


def test_memory_has_a_ratio_and_a_limit(make_ledger: Any) -> None:
    base = make_ledger("a", ["+"], latency=samples([1.0], memory_bytes=2**30))
    new = make_ledger("b", ["+"], latency=samples([1.0], memory_bytes=2 * 2**30))
    assert verdicts(gate(base, new, GateRules(memory=MemoryRule(max_ratio=1.5))))["memory"] == "FAIL"
    assert verdicts(gate(base, new, GateRules(memory=MemoryRule(max_gib=4))))["memory"] == "PASS"


def test_an_absolute_limit_on_memory_fails_without_a_base(make_ledger: Any) -> None:
    base = make_ledger("base", ["+" * 100], latency=samples([10.0] * 5))
    big = make_ledger("big", ["+" * 100], latency=samples([10.0] * 5, memory_bytes=5 * 2**30))
    assert gate(base, big, GateRules(memory=MemoryRule(max_gib=4, max_ratio=1.1))).verdict is Verdict.FAIL
    assert gate(base, big, GateRules(memory=MemoryRule(max_gib=6, max_ratio=1.1))).verdict is Verdict.INCONCLUSIVE


def test_a_reason_names_the_policy_and_the_build_where_there_are_several(make_ledger: Any) -> None:
    def probed(name: str, slow: float) -> Path:
        eager = launched(10.0, policy_id="pi", compile="eager")
        graphs = launched(10.0 * slow, policy_id="pi", compile="eager+graphs")
        other = launched(10.0 * slow, policy_id="rho", compile="eager")
        return make_ledger(name, [], latency=[*eager, *graphs, *other])

    base, candidate = probed("base", 1.0), probed("candidate", 2.0)
    found = gate(base, candidate, GateRules(latency=(LatencyRule(max_ratio=1.1),)))
    said = reason(found, "latency e2e p50")
    assert "pi, compile eager+graphs, h100, NFE 10: 9.99" in said
    assert "rho, compile eager, h100, NFE 10: 9.99" in said
    rows = [row[0] for row in latency_rows(found.comparison.latency).rows]
    assert len(set(rows)) == 3
    assert "h100, pi, NFE 10, compile eager+graphs" in rows


def test_launches_that_do_not_differ_are_judged_by_their_figures(make_ledger: Any) -> None:
    def probed(name: str, ms: float) -> Path:
        rows = [row for launch in range(5) for row in samples([ms] * 20, launch=launch)]
        return make_ledger(name, ["+" * 100], latency=rows)

    ratio = GateRules(latency=(LatencyRule(max_ratio=1.1),))
    assert gate(probed("a", 50.0), probed("b", 55.0), ratio).verdict is Verdict.PASS, "the limit itself is tolerated"
    assert gate(probed("c", 50.0), probed("d", 55.1), ratio).verdict is Verdict.FAIL
    budget = GateRules(budgets=(BudgetRule(quantile=0.5, hz=20),))
    assert gate(probed("e", 50.0), probed("f", 50.0), budget).verdict is Verdict.PASS
    for rules in (ratio, budget):
        found = gate(probed(f"g{len(rules.budgets)}", 50.0), probed(f"h{len(rules.budgets)}", 0.0), rules)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert "a latency is 0 ms" in found.results[-1].reason
        assert ".." not in found.results[-1].reason


def test_energy_has_a_ratio_over_launches_and_a_limit(make_ledger: Any) -> None:
    base = make_ledger("base", {}, latency=launched(10, energy_j=2.0))
    for name, joules, expected in (("same", 2.0, "PASS"), ("hungry", 2.6, "FAIL")):
        new = make_ledger(name, {}, latency=launched(10, energy_j=joules))
        result = gate(base, new, GateRules(energy=EnergyRule(max_ratio=1.1)))
        assert verdicts(result)["energy"] == expected
        assert f"ratio {joules / 2:.3f}" in reason(result, "energy")
    both = GateRules(energy=EnergyRule(max_j=1.0, max_ratio=1.1))
    assert verdicts(gate(base, make_ledger("b", {}, latency=launched(10, energy_j=2.0)), both))["energy"] == "FAIL"
    one = make_ledger("one", {}, latency=samples(noise(10), launch=0, energy_j=2.1))
    result = gate(base, one, GateRules(energy=EnergyRule(max_ratio=1.1)))
    assert verdicts(result)["energy"] == "INCONCLUSIVE", "one launch decides nothing near the limit"


def test_energies_of_two_sources_are_compared_only_by_whoever_says_so(make_ledger: Any) -> None:
    """A counter beside the power that a sensor read: they cover different parts of a machine."""
    counted = make_ledger("base", {}, latency=launched(10, energy_j=2.0, telemetry_source="energy_j=nvml"))
    sensed = make_ledger("new", {}, latency=launched(10, energy_j=2.0, telemetry_source="power_w=ina,energy_j=power_w"))
    result = gate(counted, sensed, GateRules(energy=EnergyRule(max_ratio=1.2)))
    assert verdicts(result)["energy"] == "INCONCLUSIVE"
    assert "counter (base) and power × time (candidate)" in reason(result, "energy")
    (compared,) = result.comparison.latency
    assert compared.energy_ratio is None
    assert "--energy any" in " ".join(result.comparison.notices)
    asked = gate(counted, sensed, GateRules(energy=EnergyRule(max_ratio=1.2, source="any")))
    assert verdicts(asked)["energy"] == "PASS"
    assert "counter → power × time" in reason(asked, "energy")
    assert asked.comparison.latency[0].energy_ratio == pytest.approx(1.0)
    power_alone = make_ledger("p", {}, latency=launched(10, power_w=200.0))
    assert gate(power_alone, sensed, GateRules(energy=EnergyRule(max_ratio=1.2))).comparison.latency[0].energy_ratio


def test_a_run_stopped_by_a_gate_needs_sequential_rules(make_ledger: Any) -> None:
    base, new = make_ledger("a", ["+" * 500]), make_ledger("b", ["+" * 500], status="stopped")
    result = gate(base, new, SUCCESS)
    assert verdicts(result)["success"] == "INCONCLUSIVE"
    assert "design is sequential" in reason(result, "success")


def test_several_variants_share_alpha_and_are_named(make_ledger: Any) -> None:
    paths = [make_ledger(name, ["+" * 500], nfe=1) for name in ("a", "b")]
    for path in paths:
        LedgerWriter(path).append("episodes", [{**row, "nfe": 10} for row in read_rows(Location.of(path), "episodes")])
    result = gate(paths[0], paths[1], SUCCESS)
    assert verdicts(result)["success [pi @ NFE 1]"] == "PASS"
    assert verdicts(result)["success [pi @ NFE 10]"] == "PASS"
    assert list(verdicts(gate(paths[0], paths[1], SUCCESS, choice=Choice(base_nfe=10, nfe=1)))) == ["pairs", "success"]


def test_nothing_in_common_is_an_error_that_says_so(make_ledger: Any) -> None:
    empty = make_ledger("a", [], latency=samples([1.0], component="vision"))
    other = make_ledger("b", [], latency=samples([1.0], component="prefix"))
    with pytest.raises(UsageError, match="nothing in common"):
        gate(empty, other, SUCCESS)


def test_a_gate_opens_every_part_of_every_table_once(make_ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base, candidate = make_ledger("base", ["+++-"]), make_ledger("candidate", ["+++-"])
    opened: list[str] = []
    real = parts._read_part

    def watched(location: Any, table: str, path: str, columns: list[str]) -> Any:
        opened.append(path)
        return real(location, table, path, columns)

    monkeypatch.setattr(parts, "_read_part", watched)
    gate(base, candidate)
    assert len(opened) == len(set(opened)) > 0


def test_an_episode_with_two_outcomes_is_refused_with_its_key(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 100]), make_ledger("new", ["+" * 100])
    rows = read_rows(Location.of(new), "episodes")
    again = {**rows[7], "outcome": "timeout", "success": False, "attempt": 1}
    LedgerWriter(new).append("episodes", [again])
    for sides in ((base, new), (new, base)):
        with pytest.raises(LedgerError, match=f"1 episodes finished more than once.*{rows[7]['episode_key']}"):
            gate(*sides, SUCCESS)
    assert compare(base, new).success[0].n == 100, "compare shows it, with a notice"


def test_an_episode_that_was_repeated_with_the_same_outcome_is_no_contradiction(make_ledger: Any) -> None:
    base, new = make_ledger("base", ["+" * 100]), make_ledger("new", ["+" * 100])
    LedgerWriter(new).append("episodes", [{**read_rows(Location.of(new), "episodes")[7], "attempt": 1}])
    assert verdicts(gate(base, new, SUCCESS))["success"] == "PASS"
