"""How far plans are off: each of the runs in this repository, forecast from all others.

`python tests/benchmarks/bench_plan.py [--ledger DIR …] [--only score|speed]`. The run that is forecast is left out of
what durations and the spread between hosts are drawn from, and so is nothing else: another run of the same night on the
same machine stays in. The model in `harness/planning` was mended with these runs in view, so the coverage is not that
of unseen runs. Then the speed: a plan of 10,000 episodes on 100 nodes, as `harness plan` makes it, in seconds of one
core.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from pathlib import Path

from harness.latency.node import cpu_model
from harness.ledger import Ledger
from harness.planning.evidence import read_evidence
from harness.planning.forecast import forecast
from harness.planning.nodes_file import NodeKind, NodesFile
from harness.planning.scoring import hold_out
from harness.planning.simulate import Setting
from harness.planning.suite_plan import find_ledgers
from harness.report.tables.plan import score_sentence, score_table
from harness.report.terminal import print_table
from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.screen import Screen

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"


def main() -> None:
    """Score, then time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", action="append", help="ledger in place of reports/examples; repeatable")
    parser.add_argument("--json", help="file for the numbers")
    parser.add_argument("--only", choices=("score", "speed"), help="one of both")
    asked = parser.parse_args()
    places = asked.ledger or sorted(str(path) for path in find_ledgers(EXAMPLES, most=100))
    runs = [run for place in places for run in read_evidence(Ledger(place))]
    screen, told = Screen(), dict[str, object]()
    if asked.only != "speed":
        # A stopwatch that counts, so that each forecast has as many simulated runs on any machine: 12.
        score = hold_out(runs, seconds=functools.partial(next, itertools.count()), budget_s=13.5)
        print_table(score_table(score), screen)
        told |= {"mape": score.mape, "coverage": score.coverage, "n": score.n, "said": score_sentence(score)}
    if asked.only != "score":
        told["took"] = took = {policy: time_large(runs, policy) for policy in ("scripted", "flow")}
        for policy, (seconds, n) in took.items():
            screen.say(f"10,000 episodes of {policy} on 100 nodes: {seconds:.1f} s, {n} replications, {cpu_model()}")
    if asked.json:
        Path(asked.json).write_text(json.dumps(told, indent=2), encoding="utf-8")


def time_large(runs: list, policy: str) -> tuple[float, int]:
    """(seconds of one core, replications) of a plan of 10,000 episodes on 100 nodes of 16 cores and a GPU."""
    nfe = 10 if policy == "flow" else None
    units = [
        EpisodeUnit(policy, nfe, "libero_spatial", i % 10, i // 10, 0, episode_key("p", "s", i % 10, i // 10, 0), "p")
        for i in range(10_000)
    ]
    nodes = NodesFile(nodes=(NodeKind(profile="h100-sxm-80gb", count=100, cores=16, gpus=1),))
    began = time.process_time()
    made = forecast(units, runs, Setting(nodes.resources()), seconds=time.process_time)
    return time.process_time() - began, made.replications


if __name__ == "__main__":
    main()
