"""How often the statistics err, measured: coverage, false alarms, power, and the size that they take.

    python tests/benchmarks/bench_gate.py [--quick] [--json FILE] [--only PART,PART]

Seeds are fixed, so the figures come out the same. One core; a few minutes, of which `scale` takes one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter
from statsmodels.stats.proportion import proportion_confint

from harness.analysis.intervals import clopper_pearson, exact_coverage
from harness.analysis.latency.ratios import quantile_bounds, quantile_ratio, ratio_bounds
from harness.analysis.paired.power import drop_power, pairs_needed
from harness.analysis.paired.sequential import log_evidence_above, log_evidence_below
from harness.analysis.paired.statistics import PairCounts, difference_bounds, mcnemar_exact, newcombe_bounds
from harness.analysis.series import find_steps
from harness.gate.success import TaskPairs, judge_success
from harness.gate.verdict import Verdict
from harness.spec.rules import GateRules, SuccessRule, TaskRule, TooGoodRule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = dict[str, Any]

RATES = (0.5, 0.9, 0.97, 0.99, 1.0)
CORRELATIONS = (0.0, 0.5, 0.9, 0.98)
SIZES = (20, 100, 500, 2000)


def coverage(quick: bool) -> Iterator[Row]:
    """Exact coverage of 95 % intervals of a success rate."""
    del quick
    methods: dict[str, Callable[[Ints, int], tuple[Floats, Floats]]] = {
        "Wilson": lambda k, n: proportion_confint(k, n, method="wilson"),
        "Jeffreys": lambda k, n: proportion_confint(k, n, method="jeffreys"),
        "Clopper-Pearson": lambda k, n: clopper_pearson(k, n),
    }
    for name, method in methods.items():
        for n in SIZES:
            counts = np.arange(n + 1)
            low, high = method(counts, n)
            row: Row = {"interval": name, "n": n}
            row |= {f"p={p}": exact_coverage(low, high, p) for p in RATES}
            row["width at 0.97"] = float(stats.binom.pmf(counts, n, 0.97) @ (high - low))
            yield row


def tails(quick: bool) -> Iterator[Row]:
    """Worst coverage and worst tail of 95 % intervals of a paired difference, over rates, drops and correlations."""
    rng = np.random.default_rng(20260301)
    draws = 5_000 if quick else 20_000
    for n in SIZES:
        worst: dict[str, dict[str, float]] = {}
        for q_lost, q_gained, both in _pair_laws():
            lost, gained, hits, _ = rng.multinomial(n, [q_lost, q_gained, both, 1 - q_lost - q_gained - both], draws).T
            counts, weights = np.unique(np.stack([lost, gained, hits]), axis=1, return_counts=True)
            for name, (low, high) in _difference_intervals(counts, n).items():
                truth, share = q_gained - q_lost, weights / draws
                above, below = share[low > truth + 1e-9].sum(), share[high < truth - 1e-9].sum()
                found = worst.setdefault(name, {"coverage": 1.0, "tail": 0.0})
                found["coverage"] = min(found["coverage"], float(1 - above - below))
                found["tail"] = max(found["tail"], float(above), float(below))
        for name, found in worst.items():
            yield {"interval": name, "n": n, "worst coverage": found["coverage"], "worst tail (2.5 %)": found["tail"]}


def _pair_laws() -> Iterator[tuple[float, float, float]]:
    """(P(lost), P(gained), P(both)) over the issue's rates, drops of 0, 1, 3 and 10 points, and correlations."""
    for p in RATES:
        for drop in (0.0, 0.01, 0.03, 0.1):
            for rho in CORRELATIONS:
                yield _law(p, p - drop, rho)


def _law(base: float, new: float, rho: float) -> tuple[float, float, float]:
    both = base * new + rho * np.sqrt(base * (1 - base) * new * (1 - new))
    both = float(np.clip(both, max(0.0, base + new - 1), min(base, new)))
    return max(base - both, 0.0), max(new - both, 0.0), both


def _difference_intervals(counts: Ints, n: int) -> dict[str, tuple[Floats, Floats]]:
    lost, gained, both = counts
    return {
        "Tango": difference_bounds(lost, gained, n, correction=0),
        "Tango + Edwards": difference_bounds(lost, gained, n),
        "Newcombe": newcombe_bounds(both, lost, gained, n),
    }


NIGHTS = GateRules(
    success=SuccessRule(margin=0.03, alpha=0.03), per_task=TaskRule(cliff=0.3), too_good=TooGoodRule(verdict="fail")
)
"""A whole gate: drop, collapsed task and unexpected rise share alpha = 5 %."""


def nights(quick: bool) -> Iterator[Row]:
    """False alarms of the whole gate when nothing changed, over tasks of which half are easier and half harder."""
    n_nights, tasks = (1_000, 10) if quick else (10_000, 10)
    rng = np.random.default_rng(20260302)
    sequential = NIGHTS.model_copy(update={"design": "sequential"})
    for n in (100, 500):
        for p in RATES:
            for rho in CORRELATIONS:
                if p == 1.0 and rho > 0:
                    continue
                pairs = _nights(rng, n_nights, n, p, rho)
                yield {
                    "pairs": n,
                    "p": p,
                    "correlation": rho,
                    "fixed": _fixed_alarms(pairs, tasks).mean(),
                    "sequential": _sequential_alarms(pairs, tasks, sequential).mean(),
                    "checked": _cross_check(pairs[:20], tasks),
                }


def passes(quick: bool) -> Iterator[Row]:
    """False passes: success truly dropped by the margin of 3 points."""
    n_nights = 1_000 if quick else 10_000
    rng = np.random.default_rng(20260303)
    for n in (100, 500, 2000):
        for p in (0.5, 0.9, 0.97, 1.0):
            for rho in (0.0, 0.5, 0.98):
                q_lost, q_gained, _ = _law(p, p - 0.03, rho)
                pairs = rng.choice(
                    np.array([-1, 0, 1], np.int8), (n_nights, n), p=[q_lost, 1 - q_lost - q_gained, q_gained]
                )
                lost, gained = (pairs < 0).sum(1), (pairs > 0).sum(1)
                low, _ = difference_bounds(lost, gained, n, 0.9)
                evidence = _path(pairs, -0.03, above=True)
                yield {
                    "pairs": n,
                    "p": p,
                    "correlation": rho,
                    "fixed": float((low > -0.03).mean()),
                    "sequential": float((evidence >= np.log(20)).any(axis=1).mean()),
                }


def _nights(rng: np.random.Generator, n_nights: int, n: int, p: float, rho: float) -> NDArray[np.int8]:
    """Paired differences, shape (nights, n): half of the tasks are easier and half harder than p."""
    spread = min(0.05, p, 1 - p)
    easy, hard = _law(p + spread, p + spread, rho), _law(p - spread, p - spread, rho)
    u = rng.random((n_nights, n), dtype=np.float32)
    odd = (np.arange(n) % 2).astype(bool)
    lost = np.where(odd, easy[0], hard[0]).astype(np.float32)
    both = lost + np.where(odd, easy[1], hard[1]).astype(np.float32)
    return (((u >= lost) & (u < both)).astype(np.int8) - (u < lost).astype(np.int8)).astype(np.int8)


def _fixed_alarms(pairs: NDArray[np.int8], tasks: int) -> NDArray[np.bool_]:
    """Nights on which a gate of fixed design fails."""
    n = pairs.shape[1]
    lost, gained = (pairs < 0).sum(1), (pairs > 0).sum(1)
    drop = mcnemar_exact(lost, gained, "drop") <= NIGHTS.alpha_of(NIGHTS.success)
    low, _ = difference_bounds(lost, gained, n, 1 - 2 * NIGHTS.alpha)
    rise = mcnemar_exact(lost, gained, "rise") <= NIGHTS.alpha_of(NIGHTS.too_good)
    by_task = pairs.reshape(len(pairs), -1, tasks)
    task_lost, task_gained = (by_task < 0).sum(1), (by_task > 0).sum(1)
    p = mcnemar_exact(task_lost, task_gained, "drop")
    # Holm's first step; a later task is only rejected when this one is.
    cliff = (task_gained - task_lost) / (n // tasks) <= -0.3
    order = np.argsort(p, axis=1)
    adjusted = np.take_along_axis(p, order, 1) * np.arange(tasks, 0, -1)
    adjusted = np.maximum.accumulate(adjusted, axis=1)
    collapsed = (adjusted <= NIGHTS.alpha_of(NIGHTS.per_task)) & np.take_along_axis(cliff, order, 1)
    return np.asarray((drop & (low <= -0.03)) | rise | collapsed.any(axis=1), dtype=np.bool_)


def _sequential_alarms(pairs: NDArray[np.int8], tasks: int, rules: GateRules) -> NDArray[np.bool_]:
    """Nights on which a rule's evidence crosses its line at any look (more than a gate that stops at a PASS would)."""
    drop = _path(pairs, 0.0, above=False) >= np.log(1 / rules.alpha_of(rules.success))
    rise = _path(pairs, 0.0, above=True) >= np.log(1 / rules.alpha_of(rules.too_good))
    alarms = drop.any(axis=1) | rise.any(axis=1)
    for task in range(tasks):
        evidence = _path(pairs[:, task::tasks], 0.0, above=False)
        alarms |= (evidence >= np.log(tasks / rules.alpha_of(rules.per_task))).any(axis=1)
    return np.asarray(alarms, dtype=np.bool_)


def _path(pairs: NDArray[np.int8], bound: float, *, above: bool) -> Floats:
    """Log evidence after every pair, shape (nights, n)."""
    lost, gained = np.cumsum(pairs < 0, axis=1, dtype=np.int32), np.cumsum(pairs > 0, axis=1, dtype=np.int32)
    counts = np.arange(1, pairs.shape[1] + 1)
    evidence = log_evidence_above if above else log_evidence_below
    chunks = [
        evidence(gained[start : start + 250], lost[start : start + 250], counts, bound)
        for start in range(0, len(pairs), 250)
    ]
    return np.concatenate(chunks)


def _cross_check(pairs: NDArray[np.int8], tasks: int) -> str:
    """The vectorised alarms against the gate's own code."""
    expected = _fixed_alarms(pairs, tasks)
    for night, alarm in zip(pairs, expected, strict=True):
        judged = judge_success(_counts("all", night), [_counts(str(t), night[t::tasks]) for t in range(tasks)], NIGHTS)
        if any(result.verdict is Verdict.FAIL for result in judged) != alarm:
            return "DIFFERS"
    return "same"


def _counts(name: str, pairs: NDArray[np.int8]) -> TaskPairs:
    counts = PairCounts(int((pairs == 0).sum()), int((pairs < 0).sum()), int((pairs > 0).sum()), 0)
    return TaskPairs(name, counts, counts)


def population(quick: bool) -> Iterator[Row]:
    """False alarms when the episodes are a fixed set with as many losses as gains, and only their order is random."""
    rng = np.random.default_rng(20260306)
    n_nights = 1_000 if quick else 10_000
    for flips in (2, 10, 40):
        same = np.zeros(500 - 2 * flips, np.int8)
        nights = np.tile(np.concatenate([np.full(flips, -1, np.int8), np.full(flips, 1, np.int8), same]), (n_nights, 1))
        alarms = _path(rng.permuted(nights, axis=1), 0.0, above=False) >= np.log(20)
        yield {"episodes": 500, "losses = gains": flips, "sequential": float(alarms.any(axis=1).mean())}


def steps(quick: bool) -> Iterator[Row]:
    """Step changes of a nightly series: false ones, and a drop of 3 points found after a few nights of 400 episodes."""
    rng = np.random.default_rng(20260307)
    repeats = 50 if quick else 400
    for nights_before in (10, 20, 30):
        for nights_after in (0, 1, 2, 3, 5):
            rates = np.r_[np.full(nights_before, 0.97), np.full(nights_after, 0.94)]
            series = rng.binomial(400, rates, size=(repeats, rates.size)) / 400
            found = np.mean([bool(find_steps(one, np.full(one.size, 400.0), rng)) for one in series])
            yield {"nights before": nights_before, "nights after": nights_after, "a step is shown": float(found)}


def power(quick: bool) -> Iterator[Row]:
    """Episodes until a real drop of 3 points with 4 % discordant pairs is shown, at the same alpha and power."""
    rng = np.random.default_rng(20260304)
    n_nights, horizon = (1_000 if quick else 10_000), 1_200
    fails, stops = _first_decisions(rng, n_nights, horizon, 0.035, 0.005)
    for wanted in (0.8, 0.9, 0.95):
        fixed = pairs_needed(0.03, 0.04, power=wanted) or 0
        limit = next(n for n in range(20, horizon) if (fails <= n).mean() >= wanted)
        mean = float(np.minimum(stops, limit).mean())
        yield {
            "power": wanted,
            "fixed episodes": fixed,
            "fixed power": drop_power(fixed, 0.03, 0.04),
            "sequential at most": limit,
            "sequential mean": mean,
            "sequential median": float(np.median(np.minimum(stops, limit))),
            "sequential power": float((fails <= limit).mean()),
            "share of fixed": mean / fixed,
        }
    for label, lost, gained in (("nothing changed, 4 % flips", 0.02, 0.02), ("nothing changed, 0.4 %", 0.002, 0.002)):
        fails, stops = _first_decisions(rng, n_nights, 2_000, lost, gained)
        yield {
            "power": label,
            "sequential mean": float(np.minimum(stops, 2000).mean()),
            "sequential median": float(np.median(stops)),
            "false alarms": float((fails <= 2000).mean()),
        }


def _first_decisions(
    rng: np.random.Generator, n_nights: int, horizon: int, lost: float, gained: float
) -> tuple[Ints, Ints]:
    """Pair at which each night FAILS (beyond the horizon: never), and at which it stops, PASS or FAIL."""
    fails, stops = [], []
    for _ in range(n_nights // 500):
        pairs = rng.choice(np.array([-1, 0, 1], np.int8), (500, horizon), p=[lost, 1 - lost - gained, gained])
        fail = _first(_path(pairs, 0.0, above=False) >= np.log(20))
        good = _first(_path(pairs, -0.03, above=True) >= np.log(20))
        fails.append(np.where(fail <= good, fail, 10**9))
        stops.append(np.minimum(fail, good))
    return np.concatenate(fails), np.concatenate(stops)


def _first(crossed: NDArray[np.bool_]) -> Ints:
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1, 10**9).astype(np.int64)


def latency(quick: bool) -> Iterator[Row]:
    """Coverage of latency ratios, and alarms when the ratio is exactly at its limit; log-normal, autocorrelated."""
    rng = np.random.default_rng(20260305)
    repeats = 100 if quick else 500
    for rho in (0.0, 0.5, 0.9):
        for n in (20, 100, 500, 2000, 8000):
            for quantile in (0.5, 0.99):
                covered, alarms, inside = [], 0, []
                truth = 50 * np.exp(0.1 * stats.norm.ppf(quantile))
                for old, new in zip(_series(rng, rho, repeats, n), 1.1 * _series(rng, rho, repeats, n), strict=True):
                    found = quantile_ratio(old, new, quantile, rng)
                    if found.interval is not None:
                        covered.append(found.interval.contains(1.1))
                    alarms += ratio_bounds(old, new, quantile, rng, 0.05, 0.05).low > 1.1
                    inside.append(quantile_bounds(old, quantile, 0.05).high >= truth)
                yield {
                    "autocorrelation": rho,
                    "samples": n,
                    "quantile": quantile,
                    "printed": len(covered) / repeats,
                    "coverage": float(np.mean(covered)) if covered else None,
                    "alarms at the limit": alarms / repeats,
                    "budget bound holds": float(np.mean(inside)),
                }


def _series(rng: np.random.Generator, rho: float, repeats: int, n: int) -> Floats:
    noise = rng.standard_normal((repeats, n + 200))
    series: Floats = 50 * np.exp(0.1 * lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise, axis=1)[:, 200:])
    return series


def scale(quick: bool) -> Iterator[Row]:
    """Wall time and memory of comparing two ledgers, in a process of its own."""
    n = 100_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for seed, flips in ((1, 0.0), (2, 0.02)):
            _write_ledger(Path(folder) / str(seed), n, seed, flips)
        script = (
            "import resource, sys, time; start = time.perf_counter()\n"
            "from harness.analysis.paired.compare import compare\n"
            "imported = time.perf_counter(); found = compare(*sys.argv[1:])\n"
            "assert found.success[0].n == found.success[0].base.n\n"
            "print(imported - start, time.perf_counter() - start, time.process_time(),"
            " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
        )
        for _ in range(3):
            command = [sys.executable, "-c", script, f"{folder}/1", f"{folder}/2"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            imports, total, cpu, memory = map(float, done.stdout.split())
            yield {
                "episodes x 2": n,
                "total s": total,
                "of which imports s": imports,
                "CPU s": cpu,
                "memory GiB": memory,
            }


def _write_ledger(path: Path, n: int, seed: int, flips: float) -> None:
    """A ledger of real width: every text column is filled."""
    import hashlib

    import pyarrow as pa

    from harness.ledger import LedgerWriter

    writer = LedgerWriter(path)
    started = datetime(2026, 3, 1, tzinfo=UTC)
    protocol = json.dumps({"libero_spatial": {"suite": "libero_spatial"}})
    writer.append("runs", [{"run_id": "r", "protocol": protocol, "status": "finished", "started_at": started}])
    solved = np.random.default_rng(0).random(n) < 0.97
    solved ^= np.random.default_rng(seed).random(n) < flips
    for start in range(0, n, 100_000):
        rows = np.arange(start, min(start + 100_000, n))
        size, won = rows.size, solved[rows]
        keys = [hashlib.sha256(str(row).encode()).hexdigest() for row in rows]
        writer.append(
            "episodes",
            pa.table(
                {
                    "run_id": ["r"] * size,
                    "episode_key": keys,
                    "protocol_sha256": ["p" * 64] * size,
                    "suite": ["libero_spatial"] * size,
                    "task_id": pa.array(rows % 10, pa.int32()),
                    "task": [f"pick up the black bowl number {row % 10} and place it on the plate" for row in rows],
                    "init_state_id": pa.array(rows // 10 % 50, pa.int32()),
                    "trial": pa.array(rows // 500, pa.int32()),
                    "policy_id": ["lerobot:lerobot/pi05-libero"] * size,
                    "nfe": pa.array([10] * size, pa.int32()),
                    "checkpoint": [f"lerobot/pi05-libero@{seed}"] * size,
                    "checkpoint_sha256": [f"{seed}" * 64] * size,
                    "outcome": np.where(won, "success", "timeout").tolist(),
                    "success": won,
                    "attempt": pa.array([0] * size, pa.int32()),
                    "hardware": ["NVIDIA H100 80GB HBM3"] * size,
                    "trajectory_sha256": keys,
                    "video": [None if ok else f"videos/{row}.mp4" for ok, row in zip(won, rows, strict=True)],
                    "started_at": pa.array([started] * size, pa.timestamp("us", "UTC")),
                }
            ),
        )


PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "coverage": coverage,
    "tails": tails,
    "nights": nights,
    "passes": passes,
    "population": population,
    "power": power,
    "steps": steps,
    "latency": latency,
    "scale": scale,
}


def show(title: str, rows: Sequence[Row]) -> None:
    """Print rows as a table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    print(f"\n{title}")
    for line in (columns, *cells):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{float(value):.4f}" if abs(float(value)) < 2 else f"{float(value):.1f}"
    return "-" if value is None else str(value)


def main() -> None:
    """Run the parts that are asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the nights")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    results: dict[str, list[Row]] = {}
    for name in options.only.split(","):
        started = time.perf_counter()
        results[name] = list(PARTS[name](options.quick))
        show(f"{name} ({time.perf_counter() - started:.0f} s): {(PARTS[name].__doc__ or '').strip()}", results[name])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the benchmark itself: {peak:.1f} GiB")
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2, default=float) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
