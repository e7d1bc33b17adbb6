"""Rules × comparison → verdict."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness.analysis.latency.comparison import Samples, read_samples
from harness.analysis.paired.compare import Choice, Comparison, SuccessComparison, compare
from harness.analysis.paired.pairing import Side
from harness.analysis.success.controls import positive_control
from harness.errors import LedgerError, UsageError
from harness.gate.device import samples_on_device
from harness.gate.early_stopping import key_rounds, read_stop_record
from harness.gate.health import judge_errors, judge_pairs
from harness.gate.pairs import PairTable, cluster_codes
from harness.gate.planned import planned_tasks
from harness.gate.speed import (
    judge_budget,
    judge_energy,
    judge_memory,
    judge_ratio,
    latency_rule_name,
    require_known_hardware,
)
from harness.gate.stopping import decide_look
from harness.gate.success import judge_success
from harness.gate.verdict import RuleResult, Verdict, verdict_of
from harness.ledger import Ledger, open_ledger
from harness.ledger.storage import Location
from harness.notebook import ShownInNotebooks
from harness.schedule.early_stopping import STOP_RECORD
from harness.spec.rules import DEFAULT_RULES, GateRules

WHOLE_LOOK = 0.95
"""Share of its planned pairs with which a look of a run that was cut off is complete."""

NEVER_TIMED = "Not judged: a positive control looks at no frame, so that no probe times it."


@dataclass(frozen=True)
class GateResult(ShownInNotebooks):
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
    allow: Collection[str] = (),
    device: str | Path | Ledger | None = None,
) -> GateResult:
    """Judge a candidate against a base.

    Args:
        base: Ledger of what is in use, by path or open.
        candidate: Ledger of what might replace it.
        rules: The rules; `DEFAULT_RULES` when not given.
        choice: Which policy and NFE on either side.
        seed: Of the latency bootstrap.
        allow: "clock": rows of two clocks may be paired.
        device: Ledger of a probe of the candidate on the device that it is for: absolute limits on latency, memory and
            energy are judged there. None: in the candidate's own ledger.

    Raises:
        LedgerError: No ledger at a path, a damaged one, or one in which an episode has two outcomes.
        UsageError: The protocols differ, or it is unclear which variants belong together.
    """
    given = rules or DEFAULT_RULES
    base, candidate = open_ledger(base), open_ledger(candidate)
    keys = _judged_keys(candidate, given)
    compared = compare(
        base,
        candidate,
        choice=choice,
        keys=keys,
        seed=seed,
        across=given.across,
        energy=given.energy.source if given.energy else "same",
        allow=allow,
    )
    chosen = choice or Choice()
    _refuse_itself(compared, chosen, given)
    _refuse_contradictions(compared)
    samples = (
        read_samples(base, (chosen.base_policy, chosen.base_nfe)),
        read_samples(candidate, (chosen.policy, chosen.nfe)),
    )
    on_device = None if device is None else samples_on_device(open_ledger(device), candidate, compared.success)
    require_known_hardware(given, *samples, () if on_device is None else on_device.samples)
    results = judge(compared, samples, given, None if on_device is None else on_device.samples)
    results += [] if on_device is None else [on_device.told]
    return GateResult(verdict_of(results), tuple(results), compared, given)


def _refuse_itself(compared: Comparison, choice: Choice, rules: GateRules) -> None:
    """Refuse to gate something against itself: that passes for ever, whatever happens to the candidate.

    Raises:
        UsageError: A candidate would be judged by rows that its own base has too, episodes or, where a rule is about a
            ratio, latency: one ledger given twice, a copy of it, or two that share a run.
    """
    shared = {
        run
        for one in compared.success
        if (one.base.variant, one.base.timing) == (one.candidate.variant, one.candidate.timing)
        for run in one.base.runs & one.candidate.runs
    }
    if rules.latency or any(rule is not None and rule.max_ratio is not None for rule in (rules.memory, rules.energy)):
        sides = [(one.base, one.candidate) for one in compared.latency]
        shared |= {
            run
            for old, new in sides
            if (old.policy_id, old.nfe, old.build) == (new.policy_id, new.nfe, new.build)
            for run in old.runs & new.runs
        }
    same_choice = (choice.base_policy, choice.base_nfe, choice.base_clock) == (choice.policy, choice.nfe, choice.clock)
    same_place = Location.of(compared.base).root == Location.of(compared.candidate).root
    if shared or (same_place and same_choice and not compared.success):
        what = f"share the run {min(shared)!r}" if shared else "are one ledger"
        raise UsageError(
            f"{compared.base!r} and {compared.candidate!r} {what}: a candidate gated against itself passes for ever. "
            "Check the two paths; to compare two policies or NFE values of one ledger choose them with --base-policy, "
            "--base-nfe, --policy and --nfe."
        )


def _refuse_contradictions(compared: Comparison) -> None:
    """Refuse episodes that finished more than once with different outcomes: which one counts would decide the verdict.

    Raises:
        LedgerError: Names the ledger and a key.
    """
    for side in (side for one in compared.success for side in (one.base, one.candidate)):
        if side.contradictory:
            raise LedgerError(
                f"{side.path!r}, {side.label}: {len(side.contradictory)} episodes finished more than once with "
                f"different outcomes, among them the one with key {side.contradictory[0]!r}. A gate does not choose "
                "between them: rows of two experiments were mixed, or an episode was run twice on unlike machines. "
                "Keep one of each, or run the candidate again into a ledger of its own."
            )


def _judged_keys(candidate: Ledger, rules: GateRules) -> list[str] | None:
    """Episodes that a stopped run was judged by: those that ended beside them are a biased sample."""
    if rules.design == "fixed" or candidate.status != "stopped":
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
    on_device: Sequence[Samples] | None = None,
) -> list[RuleResult]:
    """Judge a comparison by every rule.

    Args:
        comparison: What was compared.
        samples: Raw latency of base and candidate.
        rules: The rules.
        on_device: Samples of the candidate on the device whose limits count; None for the candidate's own.
    """
    results = _judge_episodes(comparison.success, rules)
    if _is_never_timed(comparison.success) and not any(samples):
        results += [
            RuleResult(latency_rule_name(rule), Verdict.INCONCLUSIVE, NEVER_TIMED, reported=True)
            for rule in rules.latency
        ]
    else:
        results += [judge_ratio(rule, samples, rules.alpha_of(rule), rules.alpha) for rule in rules.latency]
    limited = samples[1] if on_device is None else on_device
    results += [judge_budget(rule, limited, rules.alpha_of(rule), rules.alpha) for rule in rules.budgets]
    if rules.memory:
        results.append(judge_memory(rules.memory, samples if on_device is None else ((), on_device)))
    if rules.energy:
        ratio = rules.energy.max_ratio is not None
        sides = (samples[0], limited)
        results.append(judge_energy(rules.energy, sides, rules.alpha_of(rules.energy) if ratio else 0.0, rules.alpha))
    return results


def _is_never_timed(compared: Sequence[SuccessComparison]) -> bool:
    """Whether this is about policies that no probe times, so that their latency is no reason to withhold a verdict."""
    sides = [side for one in compared for side in (one.base, one.candidate)]
    return bool(sides) and all(positive_control(side.policy_id) for side in sides)


def _judge_episodes(compared: Sequence[SuccessComparison], rules: GateRules) -> list[RuleResult]:
    """Judge what the rules say about episodes; a gate on latency alone needs none."""
    if not (rules.success or rules.score or rules.per_task or rules.floor or rules.too_good or rules.errors):
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
    judged = _judge_pairs_of(success, rules, variants)
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


def _judge_pairs_of(success: SuccessComparison, rules: GateRules, variants: int) -> list[RuleResult]:
    table = tabulate(success, rules)
    if rules.design != "sequential" or table.rounds is None:
        return judge_success(table, rules, variants=variants, outlook=True)
    taken = int(table.rounds.max()) + 1 if table.n else 0
    if table.complete is not None:
        taken = min(taken, table.complete)
    decision = decide_look(table, rules, taken)
    look = decision.look or 1
    results = judge_success(table.until(look), rules, variants=variants, look=look, outlook=taken > 0)
    return results if table.complete is None else [_cut_off(result, table) for result in results]


def _cut_off(result: RuleResult, table: PairTable) -> RuleResult:
    """Say of a rule that the run of its pairs was cut off, and that only whole looks of its plan were weighed."""
    complete, planned = table.complete or 0, 0 if table.planned is None else int(table.planned.sum())
    said = (
        f"The run was cut off: {table.n} of {planned} planned pairs are there, and {complete} of {table.looks} looks "
        "are complete; others are not weighed, since what ended first is a biased part of a look. Finish it with "
        "--resume."
    )
    if complete == 0:
        return replace(result, verdict=Verdict.INCONCLUSIVE, reason=said)
    return replace(result, reason=f"{result.reason} {said}")


def tabulate(success: SuccessComparison, rules: GateRules) -> PairTable:
    """The pairs of a comparison, with their clusters and the rounds of their looks, as rules want them."""
    rows = success.pairing.base_rows
    details = success.base.details.take(pa.array(rows))
    names = [_task_label(task.suite, task.task_id, task.task) for task in success.tasks]
    numbers = {(task.suite, task.task_id, task.task): number for number, task in enumerate(success.tasks)}
    columns = [details[column].to_pylist() for column in ("suite", "task_id", "task")]
    task = np.array([numbers[key] for key in zip(*columns, strict=True)], dtype=np.int64)
    others = success.pairing.candidate_rows
    old, new = success.base.scores, success.candidate.scores
    table = PairTable(
        names,
        task,
        success.base.outcomes[rows],
        success.candidate.outcomes[others],
        base_scores=None if old is None else old[rows],
        candidate_scores=None if new is None else new[others],
    )
    if rules.cluster:
        return replace(table, cluster=cluster_codes(details, task, rules.cluster))
    if rules.design != "sequential":
        return table
    return _with_rounds(table, success, rules)


def _with_rounds(table: PairTable, success: SuccessComparison, rules: GateRules) -> PairTable:
    """Give each pair the look at which a gated run weighed it: of its record, or as the run must have planned it."""
    plan = _recorded_plan(success)
    side = success.candidate
    keys = success.base.keys.take(pa.array(success.pairing.base_rows)).to_pylist()
    if plan is not None:
        return _with_recorded_rounds(table, keys, plan)
    if side.status == "stopped":
        return table  # stopped by a harness that recorded no plan: the e-process judges it, as it did then
    tasks = planned_tasks(side, success.base)
    held = dict(zip(success.base.keys.to_pylist(), _task_names(success.base), strict=True))
    # As in a gated run: rounds are of the whole plan, and what the base has too is weighed.
    weighed = [[key for key in members if key in held] for members in key_rounds(tasks, rules.looks)]
    names = [*table.names, *sorted({held[key] for members in weighed for key in members} - set(table.names))]
    numbers = {name: number for number, name in enumerate(names)}
    planned = np.zeros((max(len(weighed), 1), len(names)), dtype=np.int64)
    for look, members in enumerate(weighed):
        np.add.at(planned[look], [numbers[held[key]] for key in members], 1)
    look_of = {key: look for look, members in enumerate(weighed) for key in members}
    rounds = np.array([look_of[key] for key in keys], dtype=np.int64)
    there = np.bincount(rounds, minlength=len(planned))
    short = there < WHOLE_LOOK * planned.sum(axis=1)
    complete = int(short.argmax()) if short.any() else None
    return replace(table, names=names, rounds=rounds, planned=planned, complete=complete)


def _with_recorded_rounds(table: PairTable, keys: Sequence[str], plan: Sequence[Sequence[str]]) -> PairTable:
    """Rounds of a run that a gate stopped, whose record has the plan."""
    look_of = {key: look for look, members in enumerate(plan) for key in members}
    rounds = np.array([look_of[key] for key in keys], dtype=np.int64)
    planned = np.zeros((max(len(plan), 1), len(table.names)), dtype=np.int64)
    np.add.at(planned, (rounds, table.task), 1)
    # Episodes to come count in the plan though no row tells their task: rounds hold an equal part of every task.
    done = int(rounds.max(initial=-1)) + 1
    for look in range(done, len(plan)):
        planned[look] = np.round(planned[0] * len(plan[look]) / max(len(plan[0]), 1))
    return replace(table, rounds=rounds, planned=planned)


def _task_names(side: Side) -> list[str]:
    columns = (side.details[column].to_pylist() for column in ("suite", "task_id", "task"))
    return [_task_label(*place) for place in zip(*columns, strict=True)]


def _recorded_plan(success: SuccessComparison) -> list[list[str]] | None:
    if success.candidate.status != "stopped":
        return None
    plan = (read_stop_record(success.candidate.path) or {}).get("plan")
    return plan if isinstance(plan, list) else None


def _task_label(suite: str | None, task_id: int | None, task: str | None) -> str:
    name = task or f"task {task_id}"
    return f"{suite} task {task_id} ({name})" if suite and task_id is not None else name
