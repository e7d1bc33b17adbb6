"""What follows a run's last episode: the end of Ray, then the report of 500 episodes. At most 3 s is asked.

Run: `python tests/benchmarks/bench_end.py`. The ledger is as a run leaves it, a part for each report of a worker: 500
episodes of the shipped ledger `reports/examples/learned`, written one by one with their decisions.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import ray

from harness.analysis.summary import Summary
from harness.latency.node import cpu_model
from harness.ledger import LedgerWriter, read
from harness.ledger.parts import read_table
from harness.ledger.storage import Location
from harness.report import render_terminal, write_html, write_summary
from harness.screen import Screen

LIMIT_S = 3.0
SOURCE = Path(__file__).parents[2] / "reports/examples/learned/ledger"


def write_one_by_one(out: str, n: int) -> None:
    """Write a ledger of `n` episodes in `2 * n` parts, besides run and nodes."""
    source, writer = Location.of(SOURCE), LedgerWriter(out)
    episodes = read_table(source, "episodes")
    chosen = pc.and_(pc.equal(episodes["policy_id"], "flow"), pc.equal(episodes["nfe"], 10))
    episodes = episodes.filter(chosen).slice(0, n)
    for table in ("runs", "nodes"):
        writer.append(table, read_table(source, table))
    decisions = read_table(source, "decisions")
    decisions = decisions.filter(pc.and_(pc.equal(decisions["policy_id"], "flow"), pc.equal(decisions["nfe"], 10)))
    for row in range(n):
        key = episodes["episode_key"][row]
        writer.append("decisions", decisions.filter(pc.equal(decisions["episode_key"], key)))
        writer.append("episodes", episodes.slice(row, 1))


def main() -> int:
    """Print each step; 1 when all take longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=500)
    n = parser.parse_args().episodes
    with tempfile.TemporaryDirectory() as folder:
        write_one_by_one(folder, n)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        began = last = time.perf_counter()
        ray.shutdown()
        steps = {"end of Ray": time.perf_counter() - last}
        last = time.perf_counter()
        summary = Summary(read(folder))
        summary.success  # noqa: B018
        steps["reading"] = time.perf_counter() - last
        last = time.perf_counter()
        write_html(summary, f"{folder}/report.html", command="harness report")
        write_summary(summary, print)
        with contextlib.redirect_stdout(io.StringIO()):
            render_terminal(summary, Screen())
        steps["report and tables"] = time.perf_counter() - last
        all_s = time.perf_counter() - began
    told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in steps.items())
    print(f"{n} episodes: {all_s:.2f} s (limit {LIMIT_S:g}): {told}; {cpu_model()}")
    return 0 if all_s <= LIMIT_S else 1


if __name__ == "__main__":
    raise SystemExit(main())
