r"""What planned looks would have saved, on ledgers that were run to the end.

    PYTHONPATH=examples harness run libero_spatial --nfe 1 --episodes 50 --out reports/degraded -p flow \
        -p 'python:degraded_flow:noisy?sigma=0.04' -p 'python:degraded_flow:noisy?sigma=0.06' \
        -p 'python:degraded_flow:noisy?sigma=0.08' -p 'python:degraded_flow:noisy?sigma=0.1'
    python examples/sequential_savings.py reports/degraded --base-policy flow

The first command plants mild degradations, 500 pairs each; look for those that cost 3 to 6 points of success. The
second replays every pair of base and candidate in many random orders through the gate's own code: how often each
verdict comes, and after which share of the pairs, by success alone and with partial credit. Orders of the same pairs
are not new episodes: their spread says nothing about other init states. `harness gate … --rules sequential`
says the same of the one order that a gated run would have taken.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.analysis.paired.compare import Choice, SuccessComparison, compare
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


def reordered(table: PairTable, rng: np.random.Generator) -> PairTable:
    """The same pairs in another random order within each task, so at other looks."""
    rounds = np.array(table.rounds)
    for task in range(len(table.names)):
        rounds[table.task == task] = rng.permutation(rounds[table.task == task])
    return replace(table, rounds=rounds)


def replay(pairs: SuccessComparison, rules: GateRules, orders: int, rng: np.random.Generator) -> dict[str, Any]:
    """Shares of the verdicts over orders and the mean share of pairs used, beside one look at the end."""
    table = tabulate(pairs, rules)
    sizes = np.array(table.planned).sum(axis=1).cumsum()
    found = [decide_look(reordered(table, rng), rules, table.looks) for _ in range(orders)]
    used = [sizes[(one.look or 1) - 1] / sizes[-1] for one in found]
    once = combine(one.verdict for one in judge_success(table, rules.model_copy(update={"design": "fixed"})))
    shares = {verdict.value: float(np.mean([one.verdict is verdict for one in found])) for verdict in Verdict}
    return {"fixed": once.value, **shares, "pairs used": float(np.mean(used))}


def rows(
    ledger: Path, base: Path, base_policy: str, margin: float, looks: int, orders: int, seed: int
) -> Iterator[dict[str, Any]]:
    """A row per candidate and rule set; those without partial credit have no rows of it."""
    rng = np.random.default_rng(seed)
    variants = read(ledger).episodes[["policy_id", "nfe"]].drop_duplicates()
    for policy, nfe in sorted(variants.itertuples(index=False, name=None)):
        if policy == base_policy and ledger == base:
            continue
        number = None if np.isnan(nfe) else int(nfe)
        choice = Choice(base_policy=base_policy, base_nfe=number, policy=policy, nfe=number)
        for pairs in compare(base, ledger, choice=choice).success:
            counts = pairs.overall.counts
            for name, rules in rule_sets(margin, looks).items():
                if name != "success" and pairs.score is None:
                    continue
                yield {
                    "candidate": f"{policy} NFE {number}",
                    "pairs": pairs.n,
                    "points": 100 * counts.difference,
                    "flips %": 100 * counts.discordance,
                    "score": None if pairs.score is None else pairs.score.candidate - pairs.score.base,
                    "rules": name,
                    **replay(pairs, rules, orders, rng),
                }


def main() -> None:
    """Print a line per candidate and rule set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path, help="ledger of the candidates")
    parser.add_argument("--base", type=Path, help="ledger of the base, if it is another one")
    parser.add_argument("--base-policy", required=True)
    parser.add_argument("--margin", type=float, default=0.03)
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--orders", type=int, default=200, help="random orders of each")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    base = given.base or given.ledger
    for row in rows(given.ledger, base, given.base_policy, given.margin, given.looks, given.orders, given.seed):
        print(
            "  ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )


if __name__ == "__main__":
    main()
