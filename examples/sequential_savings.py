r"""What planned looks save against one look at the end, on real ledgers of a policy that was made a little worse.

    PYTHONPATH=examples harness run learned --nfe 1 --episodes 25 --out reports/degraded -p flow \
        -p 'python:degraded_flow:noisy?sigma=0.01' -p 'python:degraded_flow:noisy?sigma=0.02' \
        -p 'python:degraded_flow:noisy?sigma=0.03' -p 'python:degraded_flow:noisy?sigma=0.04' \
        -p 'python:degraded_flow:noisy?sigma=0.06'
    python examples/sequential_savings.py reports/degraded --base-policy flow

The first command plants mild degradations, 500 pairs each. The second takes each candidate's drop and flips, asks how
many pairs a fixed design needs to show such a drop with 80 % (`--power`), draws so many of the pairs at random (the
same number of every task), again and again, and has both designs judge each draw through the gate's own code: how often
each verdict comes, and after which share of the pairs, by success alone, by partial credit, and by both. Where the
ledger has too few pairs for that, or shows no drop, a draw is all of them in another order. Draws of the same pairs are
not new episodes: their spread says nothing about other init states.

Degradations that nobody planted are in a ledger that ships (eight variants of `flow`, 1,000 pairs each; one Euler step
does better than ten):

    python examples/sequential_savings.py reports/examples/learned/ledger --base-policy flow --base-nfe 1
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.paired.compare import Choice, SuccessComparison, compare
from harness.analysis.paired.power import pairs_needed
from harness.gate.judge import tabulate
from harness.gate.pairs import PairTable
from harness.gate.stopping import decide_look
from harness.gate.success import judge_success
from harness.gate.verdict import Verdict, combine
from harness.ledger import read
from harness.spec.rules import GateRules, ScoreRule, SuccessRule


def rule_sets(margin: float, looks: int) -> dict[str, GateRules]:
    """Success alone, partial credit alone, and both, which share alpha."""
    success, score = SuccessRule(margin=margin), ScoreRule(margin=margin)
    plan: dict[str, Any] = {"design": "sequential", "looks": looks}
    return {
        "success": GateRules(success=success, **plan),
        "score": GateRules(score=score, **plan),
        "both": GateRules(success=success, score=score, **plan),
    }


def drawn(table: PairTable, per_task: int, looks: int, rng: np.random.Generator) -> PairTable:
    """So many pairs of every task, at random, as the whole plan of a run with so many looks."""
    chosen, rounds = [], []
    size = -(-per_task // looks)
    for task in range(len(table.names)):
        rows = rng.permutation(np.flatnonzero(table.task == task))[:per_task]
        chosen.append(rows)
        rounds.append(np.arange(rows.size) // size)
    rows, look = np.concatenate(chosen), np.concatenate(rounds)
    planned = np.zeros((int(look.max()) + 1, len(table.names)), dtype=np.int64)
    np.add.at(planned, (look, table.task[rows]), 1)
    return replace(
        table,
        task=table.task[rows],
        base=table.base[rows],
        candidate=table.candidate[rows],
        rounds=look,
        planned=planned,
        base_scores=None if table.base_scores is None else table.base_scores[rows],
        candidate_scores=None if table.candidate_scores is None else table.candidate_scores[rows],
    )


def replay(
    pairs: SuccessComparison, rules: GateRules, per_task: int, draws: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Shares of the verdicts of both designs over draws, and the mean share of its pairs that the looks use."""
    table = tabulate(pairs, rules)
    # One look by success: what a fixed design of that many pairs would say.
    once = GateRules(success=SuccessRule(margin=(rules.success or rules.score or SuccessRule(margin=0.03)).margin))
    fixed, found, used = [], [], []
    for _ in range(draws):
        plan = drawn(table, per_task, rules.looks, rng)
        sizes = np.array(plan.planned).sum(axis=1).cumsum()
        decision = decide_look(plan, rules, plan.looks)
        fixed.append(combine(one.verdict for one in judge_success(plan, once)))
        found.append(decision.verdict)
        used.append(sizes[(decision.look or 1) - 1] / sizes[-1])
    shares = {f"fixed {one}": float(np.mean([verdict is one for verdict in fixed])) for one in Verdict}
    shares |= {one.value: float(np.mean([verdict is one for verdict in found])) for one in Verdict}
    failed = [share for share, verdict in zip(used, found, strict=True) if verdict is Verdict.FAIL]
    return {**shares, "pairs used": float(np.mean(used)), "where it FAILs": float(np.mean(failed or [np.nan]))}


def planned_pairs(pairs: SuccessComparison, power: float) -> int:
    """Pairs of a fixed design that shows the drop seen with some power; all where that is more, or there is no drop."""
    counts = pairs.overall.counts
    needed = pairs_needed(-counts.difference, counts.discordance, power=power) if counts.difference < 0 else None
    return min(needed or counts.n, counts.n)


def rows(
    ledger: Path, base: Path, base_variant: tuple[str, int | None], margin: float, looks: int, power: float, draws: int
) -> Iterator[dict[str, Any]]:
    """A row per candidate and rule set; those without partial credit have no rows of it."""
    rng = np.random.default_rng(0)
    base_policy, base_nfe = base_variant
    variants = read(ledger).episodes[["policy_id", "nfe"]].drop_duplicates()
    for policy, nfe in sorted(variants.itertuples(index=False, name=None)):
        number = None if np.isnan(nfe) else int(nfe)
        against = number if base_nfe is None else base_nfe
        if (policy, number, ledger) == (base_policy, against, base):
            continue
        choice = Choice(base_policy=base_policy, base_nfe=against, policy=policy, nfe=number)
        for pairs in compare(base, ledger, choice=choice).success:
            counts, n = pairs.overall.counts, planned_pairs(pairs, power)
            per_task = -(-n // max(len(pairs.tasks), 1))
            for name, rules in rule_sets(margin, looks).items():
                if name != "success" and pairs.score is None:
                    continue
                yield {
                    "candidate": f"{policy} NFE {number}",
                    "pairs": pairs.n,
                    "points": 100 * counts.difference,
                    "flips %": 100 * counts.discordance,
                    "score": None if pairs.score is None else pairs.score.candidate - pairs.score.base,
                    "plan": n,
                    "rules": name,
                    **replay(pairs, rules, per_task, draws, rng),
                }


def main() -> None:
    """Print a line per candidate and rule set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path, help="ledger of the candidates")
    parser.add_argument("--base", type=Path, help="ledger of the base, if it is another one")
    parser.add_argument("--base-policy", required=True)
    parser.add_argument("--base-nfe", type=int, help="NFE of the base; the candidate's own when not given")
    parser.add_argument("--margin", type=float, default=0.03)
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--power", type=float, default=0.8, help="of the fixed design that a draw is as large as")
    parser.add_argument("--draws", type=int, default=200, help="random draws of each")
    given = parser.parse_args()
    variant = (given.base_policy, given.base_nfe)
    base = given.base or given.ledger
    for row in rows(given.ledger, base, variant, given.margin, given.looks, given.power, given.draws):
        print(
            "  ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
