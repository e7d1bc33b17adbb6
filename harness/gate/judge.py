"""Rules × comparison → verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.analysis.latency.comparison import Samples, read_samples
from harness.analysis.paired.compare import Choice, Comparison, GroupComparison, SuccessComparison, compare
from harness.errors import LedgerError
from harness.gate.early_stopping import read_stop_record
from harness.gate.health import judge_errors, judge_pairs
from harness.gate.speed import judge_budget, judge_memory, judge_ratio
from harness.gate.success import TaskPairs, judge_success
from harness.gate.verdict import RuleResult, Verdict, verdict_of
from harness.ledger import Ledger, open_ledger
from harness.schedule.early_stopping import STOP_RECORD
from harness.spec.rules import DEFAULT_RULES, GateRules


@dataclass(frozen=True)
class GateResult:
    """A gate's verdict with its reasons and everything behind it."""

    verdict: Verdict
    results: tuple[RuleResult, ...]
    """One per rule (and variant), in the order of the rules."""
    comparison: Comparison
    rules: GateRules


def gate(
    base: str | Path | Ledger,
    candidate: str | Path | Ledger,
    rules: GateRules | None = None,
    *,
    choice: Choice | None = None,
    seed: int = 0,
) -> GateResult:
    """Judge a candidate against a base.

    Args:
        base: Ledger of what is in use, by path or open.
        candidate: Ledger of what might replace it.
        rules: The rules; `DEFAULT_RULES` when not given.
        choice: Which policy and NFE on either side.
        seed: Of the latency bootstrap.

    Raises:
        LedgerError: No ledger at a path, or a damaged one.
        UsageError: The protocols differ, or it is unclear which variants belong together.
    """
    given = rules or DEFAULT_RULES
    base, candidate = open_ledger(base), open_ledger(candidate)
    keys = _judged_keys(candidate, given)
    compared = compare(base, candidate, choice=choice, keys=keys, seed=seed, across=given.across)
    chosen = choice or Choice()
    samples = (
        read_samples(base, (chosen.base_policy, chosen.base_nfe)),
        read_samples(candidate, (chosen.policy, chosen.nfe)),
    )
    results = judge(compared, samples, given)
    return GateResult(verdict_of(results), tuple(results), compared, given)


def _judged_keys(candidate: Ledger, rules: GateRules) -> list[str] | None:
    """Episodes that a stopped run was judged by: those that ended beside them are a biased sample."""
    if rules.design != "sequential" or candidate.status != "stopped":
        return None
    record = read_stop_record(candidate.path)
    if record is None:
        raise LedgerError(
            f"{candidate.path!r} was stopped by a gate, but its {STOP_RECORD} is missing, so it is not known which of "
            "its episodes may be judged. Restore it, or finish the run with --resume."
        )
    return [str(key) for key in record["episode_keys"]]


def judge(
    comparison: Comparison,
    samples: tuple[Sequence[Samples], Sequence[Samples]],
    rules: GateRules,
) -> list[RuleResult]:
    """Judge a comparison by every rule.

    Args:
        comparison: What was compared.
        samples: Raw latency of base and candidate.
        rules: The rules.
    """
    results = _judge_episodes(comparison.success, rules)
    results += [judge_ratio(rule, samples, rules.alpha_of(rule), rules.alpha) for rule in rules.latency]
    results += [judge_budget(rule, samples[1], rules.alpha_of(rule), rules.alpha) for rule in rules.budgets]
    if rules.memory:
        results.append(judge_memory(rules.memory, samples))
    return results


def _judge_episodes(compared: Sequence[SuccessComparison], rules: GateRules) -> list[RuleResult]:
    """Judge what the rules say about episodes; a gate on latency alone needs none."""
    if not (rules.success or rules.per_task or rules.too_good or rules.errors):
        return []
    if not compared:
        return [RuleResult("success", Verdict.INCONCLUSIVE, "There are no episodes on both sides.")]
    results = []
    for success in compared:
        found = _judge_variant(success, rules, len(compared))
        results += [_named(result, success) for result in found] if len(compared) > 1 else found
    return results


def _judge_variant(success: SuccessComparison, rules: GateRules, variants: int) -> list[RuleResult]:
    enough = judge_pairs(success, rules)
    results = [enough]
    if rules.errors:
        results.append(judge_errors(success, rules.errors, rules.alpha_of(rules.errors) / variants))
    judged = judge_success(
        task_counts(success.overall), [task_counts(task) for task in success.tasks], rules, variants=variants
    )
    if refusal := _refused_design(success, rules):
        judged = [replace(result, verdict=Verdict.INCONCLUSIVE, reason=refusal) for result in judged]
    elif enough.verdict is not Verdict.PASS:
        judged = [
            replace(result, verdict=Verdict.INCONCLUSIVE, reason=f"Not judged: too few pairs. {result.reason}")
            for result in judged
        ]
    return results + judged


def _refused_design(success: SuccessComparison, rules: GateRules) -> str | None:
    if success.candidate.status == "stopped" and rules.design == "fixed":
        return (
            "The candidate's run was stopped by a gate, so its number of episodes depends on their outcomes; a fixed "
            "design would err more often than it says. Judge it with rules whose design is sequential."
        )
    return None


def _named(result: RuleResult, success: SuccessComparison) -> RuleResult:
    return replace(result, rule=f"{result.rule} [{success.candidate.label}]")


def task_counts(group: GroupComparison) -> TaskPairs:
    """Counts of a compared group, with the name that reasons use."""
    name = group.task or (f"task {group.task_id}" if group.task_id is not None else "all tasks")
    where = f"{group.suite} task {group.task_id} ({name})" if group.suite and group.task_id is not None else name
    return TaskPairs(where, group.counts, group.counts_with_errors)
