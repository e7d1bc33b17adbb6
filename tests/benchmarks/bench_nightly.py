"""How `harness nightly` judges at its shipped defaults: suite `nightly`, rules `nightly`, simulated ledgers, real code.

    python tests/benchmarks/bench_nightly.py [--nights 200] [--seed 20261128] [--json FILE]

A night is the whole suite: 400 episodes of tasks that differ in difficulty, and five launches of a policy of 58 ms,
each as long as the suite's budget makes it. Every night is judged against a first night of its own. One core, a second
a night.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from synthetic_nights import Nights  # noqa: E402

from harness.analysis.intervals import rate_interval  # noqa: E402
from harness.gate import gate  # noqa: E402
from harness.gate.verdict import Verdict  # noqa: E402
from harness.spec.rules import load_rules  # noqa: E402
from harness.spec.suite import load_suite  # noqa: E402

CASES: tuple[dict[str, float], ...] = (
    {"launch_sd": 0.01},
    {"launch_sd": 0.01, "flips": 0.02},
    {"launch_sd": 0.01, "flips": 0.04},
    {"launch_sd": 0.01, "flips": 0.1, "drop": 0.08},
    {"launch_sd": 0.01, "flips": 0.1, "drop": 0.05},
    {"launch_sd": 0.01, "slower": 1.25},
    {"launch_sd": 0.04},
    {"launch_sd": 0.04, "slower": 1.25},
    {"launch_sd": 0.04, "slower": 1.1},
)


def judged(case: dict[str, float], nights: int, seed: int) -> dict[str, Any]:
    """Shares of the verdicts over nights, and how often an undecided median says how many launches would decide."""
    suite, rules = load_suite("nightly"), load_rules("nightly")
    found: list[Verdict] = []
    told: list[bool] = []
    for number in range(nights):
        with tempfile.TemporaryDirectory() as folder:
            drawn = Nights(Path(folder), suite, np.random.default_rng([seed, number]))
            first = drawn.write("first", launch_sd=case["launch_sd"])
            result = gate(first, drawn.write("second", **case), rules)
        found.append(result.verdict)
        (median,) = (one for one in result.results if one.rule == "latency e2e p50")
        if median.verdict is Verdict.INCONCLUSIVE:
            told.append(re.search(r"\d+ launches a side would decide", median.reason) is not None)
    shares = {}
    for verdict in Verdict:
        count = found.count(verdict)
        low, high = rate_interval(count, nights)
        shares[verdict.value] = f"{100 * count / nights:.1f} % [{100 * low:.1f}-{100 * high:.1f}]"
    return {**case, "nights": nights, **shares, "undecided medians": len(told), "that tell launches": sum(told)}


def rows(nights: int, seed: int) -> Iterator[dict[str, Any]]:
    """Every case."""
    for case in CASES:
        yield judged(case, nights, seed)


def main() -> None:
    """Print a line a case, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20261128)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = []
    for row in rows(options.nights, options.seed):
        found.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
