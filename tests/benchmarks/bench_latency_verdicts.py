"""How often latency intervals over launches hold, and what a gate on latency does, simulated.

    python tests/benchmarks/bench_latency_verdicts.py [--quick] [--json FILE] [--only PART,PART]

A launch has a level (log-normal, with the given standard deviation between launches) and samples about it: log-normal
noise of 3 %, 2 % of samples up to 30 % slower, and, where it says so, clock states 3 % apart that last 1,000 samples.
Seeds are fixed. One core, some six minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analysis.latency.comparison import Samples
from harness.analysis.latency.launches import METHOD, level_limits, level_of, limits_between
from harness.analysis.latency.machine import Machine
from harness.analysis.latency.ratios import quantile_ratio
from harness.gate.speed import judge_ratio
from harness.spec.rules import load_rules

Floats = NDArray[np.float64]
Row = dict[str, Any]

SPREADS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05)
QUANTILES = (0.5, 0.99)
STATE = 1000
"""Samples that a clock state lasts."""
RATIO = 1.1
"""What the candidate's latency is over the base's."""


def launched(
    rng: np.random.Generator, shape: tuple[int, int, int], spread: float, *, median: float = 50.0, states: bool = False
) -> Floats:
    """Samples in ms of shape (repeats, launches, samples)."""
    repeats, launches, n = shape
    level = spread * rng.standard_normal((repeats, launches, 1))
    noise = 0.03 * rng.standard_normal(shape)
    slow = np.where(rng.random(shape) < 0.02, 0.3 * rng.random(shape), 0.0)
    state: Floats | float = 0.0
    if states:
        # A launch begins anywhere in a state.
        which = (np.arange(n) + rng.integers(0, STATE, (repeats, launches, 1))) // STATE
        drawn = rng.integers(0, 2, (repeats, launches, n // STATE + 2)) * 0.03
        state = np.take_along_axis(drawn, which, axis=2)
    samples: Floats = median * np.exp(level + noise + slow + state)
    return samples


def logs(
    rng: np.random.Generator, repeats: int, launches: int, n: int, spread: float, quantile: float, **law: Any
) -> Floats:
    """Log quantile of each launch, shape (repeats, launches), simulated in pieces that fit into memory."""
    piece = max(1, 4_000_000 // (launches * n))
    sizes = [min(piece, repeats - done) for done in range(0, repeats, piece)]
    drawn = (launched(rng, (size, launches, n), spread, **law) for size in sizes)
    found: Floats = np.log(np.concatenate([np.quantile(one, quantile, axis=2, method=METHOD) for one in drawn]))
    return found


def coverage(quick: bool) -> Iterator[Row]:
    """Coverage of a 95 % interval of a ratio, both errors at the limit, and width over that of an oracle.

    The oracle knows the standard deviation of a launch's log quantile and takes the normal law.
    """
    rng = np.random.default_rng(20261101)
    laws = [(5, 400, False, 1.0), (5, 100, False, 1.0), (5, 2000, True, 1.0), (5, 400, False, 2.0)]
    laws += [(2, 400, False, 1.0), (3, 400, False, 1.0), (10, 400, False, 1.0)]
    for launches, n, states, unlike in laws:
        some = 200 if quick else 1_000 if states else 4_000
        for spread in SPREADS:
            for quantile in QUANTILES:
                old = logs(rng, some, launches, n, spread, quantile, states=states)
                # A candidate that is slower takes fewer samples in the same time.
                fewer = max(100, round(n / RATIO))
                new = logs(rng, some, launches, fewer, unlike * spread, quantile, median=50 * RATIO, states=states)
                yield {
                    "launches": launches,
                    "samples": n,
                    "clock states": states,
                    "spread": spread,
                    "candidate's spread": unlike * spread,
                    "quantile": quantile,
                    **_covered(old, new),
                }


def _covered(old: Floats, new: Floats) -> Row:
    bounds = [
        limits_between(level_of(base), level_of(candidate), 0.025, 0.025)
        for base, candidate in zip(old, new, strict=True)
    ]
    tight = [limits_between(level_of(b), level_of(c), 0.05, 0.05) for b, c in zip(old, new, strict=True)]
    widths = [np.log(high / low) for low, high in bounds]
    oracle = 2 * 1.96 * np.sqrt((old.var() + new.var()) / old.shape[1])
    return {
        "coverage": float(np.mean([low <= RATIO <= high for low, high in bounds])),
        "false FAIL at 5 %": float(np.mean([low > RATIO for low, _ in tight])),
        "false PASS at 5 %": float(np.mean([high < RATIO for _, high in tight])),
        "width / oracle": float(np.median(widths) / oracle),
    }


def within(quick: bool) -> Iterator[Row]:
    """What an interval within one process would cover, were it taken for more than that."""
    del quick
    rng = np.random.default_rng(20261102)
    repeats = 100
    for spread in SPREADS:
        for quantile in QUANTILES:
            old = launched(rng, (repeats, 1, 2000), spread)[:, 0]
            new = launched(rng, (repeats, 1, 2000), spread, median=50 * RATIO)[:, 0]
            found = [quantile_ratio(b, c, quantile, rng).interval for b, c in zip(old, new, strict=True)]
            printed = [interval for interval in found if interval is not None]
            covered = float(np.mean([interval.contains(RATIO) for interval in printed])) if printed else None
            yield {"spread": spread, "quantile": quantile, "coverage": covered}


def reported(quick: bool) -> Iterator[Row]:
    """Coverage of a report's 95 % interval of a launch's quantile, five launches, and where the printed one lies."""
    rng = np.random.default_rng(20261103)
    repeats = 200 if quick else 1_000
    for quantile in QUANTILES:
        # The law of a launch's level is symmetric in the log: without spread there is its centre.
        truth = float(np.quantile(launched(rng, (1, 1, 2_000_000), 0.0), quantile))
        for spread in SPREADS:
            covered, inside = [], []
            for one in launched(rng, (repeats, 5, 400), spread):
                interval = level_limits(list(one), quantile, 0.025, 0.025)
                covered.append(interval.contains(truth))
                inside.append(interval.contains(float(np.quantile(one, quantile))))
            yield {
                "spread": spread,
                "quantile": quantile,
                "coverage": float(np.mean(covered)),
                "holds the quantile over all samples": float(np.mean(inside)),
            }


def nightly(quick: bool) -> Iterator[Row]:
    """The shipped rules `nightly` on latency, five launches a side of 400 samples, by true ratio."""
    rng = np.random.default_rng(20261104)
    nights = 60 if quick else 300
    rules = load_rules("nightly")
    for spread in (0.01, 0.02, 0.04):
        for ratio in (1.0, 1.1, 1.25):
            base = launched(rng, (nights, 5, 400), spread)
            candidate = launched(rng, (nights, 5, 400), spread, median=50 * ratio)
            for rule in rules.latency:
                shown = [
                    judge_ratio(rule, ([_samples(b)], [_samples(c)]), rules.alpha_of(rule), rules.alpha).shown
                    for b, c in zip(base, candidate, strict=True)
                ]
                kinds = ("PASS", "FAIL", "INCONCLUSIVE", "reported")
                shares = {kind: shown.count(kind) / nights for kind in kinds}
                yield {"spread": spread, "true ratio": ratio, "quantile": rule.quantile, **shares}


def _samples(launches: Floats) -> Samples:
    machine = Machine("h100")
    return Samples(machine, "pi", 10, "bfloat16", "eager", 1, "e2e", list(launches), 0, None, None)


PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "coverage": coverage,
    "within": within,
    "reported": reported,
    "nightly": nightly,
}


def main() -> None:
    """Print every part, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    arguments = parser.parse_args()
    found: dict[str, list[Row]] = {}
    for name in arguments.only.split(","):
        print(f"\n{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}")
        found[name] = []
        for row in PARTS[name](arguments.quick):
            found[name].append(row)
            print(
                "  ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
                )
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
