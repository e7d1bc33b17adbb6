"""How often the statistics err, measured: coverage, false alarms, power, and the size that they take.

    python tests/benchmarks/bench_gate.py [--quick] [--seed N] [--json FILE] [--only PART,PART]

Seeds are fixed, so the figures come out the same; `--seed` takes fresh ones. One core; some forty minutes,
half of them of `steps` and `credit`.
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
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.signal import lfilter
from statsmodels.stats.proportion import proportion_confint

from harness.analysis.intervals import clopper_pearson, clustered_rate_interval, exact_coverage
from harness.analysis.latency.ratios import quantile_bounds, quantile_ratio, ratio_bounds
from harness.analysis.paired.clusters import Clusters, cluster_drop_p, sign_flip_p, unseen_collapse_p
from harness.analysis.paired.group_sequential import (
    chance_to_exclude,
    chance_to_show_drop,
    look_levels,
    walk_boundaries,
)
from harness.analysis.paired.margin import margin_critical, score_statistic
from harness.analysis.paired.power import drop_power, pairs_needed
from harness.analysis.paired.sequential import log_evidence_above, log_evidence_below
from harness.analysis.paired.statistics import PairCounts, difference_bounds, mcnemar_exact, newcombe_bounds
from harness.analysis.series import find_steps
from harness.gate.evidence import FUTILITY, REACH, FixedEvidence
from harness.gate.pairs import PairTable
from harness.gate.score import ScoreEvidence
from harness.gate.stopping import decide_look
from harness.gate.success import judge_success
from harness.gate.verdict import Verdict
from harness.spec.rules import GateRules, SuccessRule, TaskRule, TooGoodRule

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Row = dict[str, Any]

FRESH: list[int] = []
"""What --seed adds to every seed."""


def generator(seed: int) -> np.random.Generator:
    """The generator of a part: its own, or with --seed another one."""
    return np.random.default_rng([seed, *FRESH] if FRESH else seed)


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
    rng = generator(20260301)
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
    """False alarms of the whole gate when nothing changed, over tasks of which half flip more and half less."""
    rng = generator(20260302)
    n_nights = 100 if quick else 500
    for n in (100, 500):
        for flips in (0.01, 0.04, 0.1, 0.2, 0.4):
            lost, gained = _looks(rng, n_nights, n, flips / 2, flips / 2, spread=0.5)
            fixed = _whole_gate(lost.sum(axis=1, keepdims=True), gained.sum(axis=1, keepdims=True), n)
            planned = _whole_gate(lost, gained, n)
            yield {
                "pairs": n,
                "flips": flips,
                "fixed": float(fixed.mean()),
                "sequential": float(planned.mean()),
                "checked": _cross_check(lost[:10], gained[:10], n, planned[:10]),
            }


LOOKS, TASKS = 10, 10


def _looks(
    rng: np.random.Generator, n_nights: int, n: int, q_lost: float, q_gained: float, spread: float = 0.0
) -> tuple[Ints, Ints]:
    """Lost and gained pairs of every look and task, not cumulated, shape (nights, looks, tasks)."""
    size = n // (LOOKS * TASKS)
    weight = 1 + spread * np.where(np.arange(TASKS) % 2, 1, -1)
    law = np.stack([q_lost * weight, q_gained * weight, 1 - (q_lost + q_gained) * weight], axis=1)
    drawn = rng.multinomial(size, law, size=(n_nights, LOOKS, TASKS))
    return drawn[..., 0], drawn[..., 1]


def _whole_gate(lost: Ints, gained: Ints, n: int) -> NDArray[np.bool_]:
    """Nights on which any rule's alarm sounds: drop, collapsed task, unexpected rise."""
    looks = lost.shape[1]
    sizes = [n * (look + 1) // looks for look in range(looks)]
    alphas = [NIGHTS.alpha_of(rule) for rule in (NIGHTS.success, NIGHTS.per_task, NIGHTS.too_good)]
    drop, rise = lost.sum(axis=2), gained.sum(axis=2)
    verdicts, _ = decide(drop, rise, sizes, alphas[0])
    alarms = (verdicts == -1) | _crossed(rise, drop, sizes, alphas[2]).any(axis=1)
    cut = np.array([size // TASKS for size in sizes])
    for task in range(TASKS):
        seen = np.cumsum(lost[:, :, task] - gained[:, :, task], axis=1)
        deep = seen >= 0.3 * cut
        alarms |= (_crossed(lost[:, :, task], gained[:, :, task], list(cut), alphas[1] / TASKS) & deep).any(axis=1)
    return np.asarray(alarms, dtype=np.bool_)


def _crossed(lost: Ints, gained: Ints, sizes: Sequence[int], alpha: float) -> NDArray[np.bool_]:
    """Looks by which the exact walk of the flips has shown a drop, shape (nights, looks); see `FairWalk`."""
    total, flips = np.cumsum(lost, axis=1), lost + gained
    # Nights with equally many flips at every look have the same boundaries.
    paths, number = np.unique(flips, axis=0, return_inverse=True)
    seen = np.cumsum(paths, axis=1)
    lines = np.array(
        [
            [
                line if line is not None else 10**9
                for line in walk_boundaries(list(zip(sizes, path, strict=True)), alpha, sizes[-1])
            ]
            for path in seen.tolist()
        ]
    )
    shown = total >= lines[number.ravel()]
    return np.asarray(np.logical_or.accumulate(shown, axis=1))


@lru_cache(maxsize=512)
def _critical(n: int, margin: float, level: float) -> float:
    return margin_critical(n, -margin, level)


def _excluded(lost: Ints, gained: Ints, sizes: Sequence[int], margin: float, alpha: float) -> NDArray[np.bool_]:
    """Looks by which a drop of the margin was excluded, shape (nights, looks)."""
    levels = look_levels(tuple(size / sizes[-1] for size in sizes), alpha)
    total, gains = np.cumsum(lost, axis=1), np.cumsum(gained, axis=1)
    reached = [
        score_statistic(total[:, look], gains[:, look], size, -margin) >= _critical(size, margin, level) - 1e-9
        for look, (size, level) in enumerate(zip(sizes, levels, strict=True))
    ]
    return np.asarray(np.logical_or.accumulate(np.stack(reached, axis=1), axis=1))


def decide(
    lost: Ints, gained: Ints, sizes: Sequence[int], alpha: float, margin: float = 0.03, pass_alpha: float = 0.05
) -> tuple[Ints, Ints]:
    """The success rule of a whole set of nights.

    Args:
        lost: Lost pairs of every look, not cumulated, shape (nights, looks).
        gained: Gained pairs, same shape.
        sizes: Pairs by each look, cumulated.
        alpha: Of the rule's alarm.
        margin: Its margin.
        pass_alpha: Of a false PASS.

    Returns:
        Verdict (1 PASS, -1 FAIL, 0 neither) and pairs used, each of shape (nights,).
    """
    drop = _crossed(lost, gained, sizes, alpha)
    good = _excluded(lost, gained, sizes, margin, pass_alpha)
    last = [look_levels(tuple(size / sizes[-1] for size in sizes), one)[-1] for one in (pass_alpha, alpha)]
    total, gains = np.cumsum(lost, axis=1), np.cumsum(gained, axis=1)
    counts: Any = SimpleNamespace(lost=total, gained=gains, discordant=total + gains, n=np.asarray(sizes)[None])
    reach = np.asarray(chance_to_exclude(counts, sizes[-1], margin, last[0], 0.0))
    show = np.asarray(chance_to_show_drop(counts, sizes[-1], last[1], -margin))
    ended = np.arange(len(sizes)) == len(sizes) - 1
    single = np.asarray(chance_to_exclude(counts, sizes[-1], margin, pass_alpha, -margin / 2))
    tolerated = score_statistic(total, gains, sizes[-1], -margin) >= _critical(sizes[-1], margin, pass_alpha) - 1e-9
    bad = drop & ~good & np.where(ended, ~tolerated, single <= REACH)
    futile = ~good & ~bad & ~ended & (np.maximum(reach, show) <= FUTILITY)
    stops = good | bad | futile | ended
    first = stops.argmax(axis=1)
    rows = np.arange(len(first))
    verdict = np.where(good[rows, first], 1, np.where(bad[rows, first], -1, 0))
    return verdict.astype(np.int64), np.asarray(sizes)[first].astype(np.int64)


def _cross_check(lost: Ints, gained: Ints, n: int, alarms: NDArray[np.bool_]) -> str:
    """The vectorised alarms of success and collapse against the gate's own code."""
    rules = NIGHTS.model_copy(update={"design": "sequential"})
    sizes = n // (LOOKS * TASKS)
    planned = np.full((LOOKS, TASKS), sizes)
    for night in range(len(lost)):
        rows = [
            (task, look, code)
            for look in range(LOOKS)
            for task in range(TASKS)
            for code in [0] * lost[night, look, task]
            + [1] * gained[night, look, task]
            + [2] * (sizes - lost[night, look, task] - gained[night, look, task])
        ]
        task, look, code = (np.array(column) for column in zip(*rows, strict=True))
        base = np.where(code == 1, 0, 1).astype(np.int8)
        new = np.where(code == 0, 0, 1).astype(np.int8)
        table = PairTable([str(t) for t in range(TASKS)], task, base, new, rounds=look, planned=planned)
        # The vectorised gate goes on looking for a rise and for collapses after a PASS: it may only alarm more.
        if decide_look(table, rules, LOOKS).verdict is Verdict.FAIL and not alarms[night]:
            return "DIFFERS"
    return "same"


def passes(quick: bool) -> Iterator[Row]:
    """False passes: success truly dropped by the margin of 3 points."""
    rng = generator(20260303)
    n_nights = 2_000 if quick else 40_000
    for n in (100, 500, 2000):
        sizes = [n * (look + 1) // LOOKS for look in range(LOOKS)]
        for flips in (0.03, 0.04, 0.06, 0.1, 0.2, 0.4):
            lost, gained = _looks(rng, n_nights, n, (flips + 0.03) / 2, (flips - 0.03) / 2)
            drop, rise = lost.sum(axis=2), gained.sum(axis=2)
            fixed = _excluded(drop.sum(axis=1, keepdims=True), rise.sum(axis=1, keepdims=True), [n], 0.03, 0.05)
            planned = _excluded(drop, rise, sizes, 0.03, 0.05)
            yield {
                "pairs": n,
                "flips": flips,
                "fixed": float(fixed.any(axis=1).mean()),
                "sequential": float(planned.any(axis=1).mean()),
            }


def verdicts(quick: bool) -> Iterator[Row]:
    """PASS and FAIL of the two designs at 2,000 pairs, margin 3 points, alarm at 5 %: no drop, and tolerated ones."""
    rng = generator(20260308)
    n, n_nights = 2_000, 200 if quick else 1_000
    sizes = [n * (look + 1) // LOOKS for look in range(LOOKS)]
    cells = [(flips, 0.0) for flips in (0.04, 0.1, 0.2, 0.3)]
    for flips, drop in [*cells, (0.04, 0.01), (0.04, 0.02), (0.1, 0.01), (0.1, 0.02)]:
        lost, gained = (one.sum(axis=2) for one in _looks(rng, n_nights, n, (flips + drop) / 2, (flips - drop) / 2))
        fixed, _ = decide(lost.sum(axis=1, keepdims=True), gained.sum(axis=1, keepdims=True), [n], 0.05)
        planned, used = decide(lost, gained, sizes, 0.05)
        yield {
            "flips": flips,
            "drop": drop,
            "fixed PASS": float((fixed == 1).mean()),
            "sequential PASS": float((planned == 1).mean()),
            "fixed FAIL": float((fixed == -1).mean()),
            "sequential FAIL": float((planned == -1).mean()),
            "episodes": float(used.mean()) / n,
        }


def shares(found: list[Verdict]) -> Row:
    """How often each verdict was found."""
    return {verdict.value: float(np.mean([one is verdict for one in found])) for verdict in Verdict}


def cliffs(quick: bool) -> Iterator[Row]:
    """The cliff rule, cliff 30 points, ten tasks: one collapsed from 1.0 to 0.5, or none; 4 % flips elsewhere."""
    rng = generator(20260309)
    n_nights = 20 if quick else 100
    rules = GateRules(per_task=TaskRule(cliff=0.3))
    for trials, collapsed in ((5, True), (10, True), (50, True), (5, False), (50, False)):
        found = []
        for _ in range(n_nights):
            task = np.repeat(np.arange(TASKS), trials)
            fails = rng.random((2, task.size)) < 0.02
            base = ~fails[0] | ((task == 0) & collapsed)
            new = np.where((task == 0) & collapsed, rng.random(task.size) < 0.5, ~fails[1])
            table = PairTable([str(t) for t in range(TASKS)], task, base.astype(np.int8), new.astype(np.int8))
            found.append(judge_success(table, rules)[0].verdict)
        yield {
            "episodes a task": trials,
            "a task collapsed": collapsed,
            **shares(found),
        }


def clusters(quick: bool) -> Iterator[Row]:
    """Clusters: coverage of a rate for new init states, and false alarms when trials or tasks move together."""
    rng = generator(20260310)
    repeats = 100 if quick else 1_000
    for states, trials in ((10, 5), (5, 10), (50, 5)):
        for rate in (0.5, 0.8, 0.9, 0.97):
            held = {}
            for rho in (0.02, 0.1, 0.2, 0.4):
                shape = 1 / rho - 1
                solved = rng.binomial(trials, rng.beta(rate * shape, (1 - rate) * shape, (repeats, states)))
                low, high = clopper_pearson(solved.sum(axis=1), states * trials)
                inside = [clustered_rate_interval(one, np.full(states, trials)).contains(rate) for one in solved]
                held[f"rho={rho}"] = float(np.mean(inside))
                held[f"Clopper-Pearson {rho}"] = float(np.mean((low <= rate) & (rate <= high)))
            yield {"init states": states, "trials": trials, "rate": rate, **held}
    for unit, count, size in (("init states", 100, 5), ("init states", 20, 10), ("tasks", 10, 50), ("tasks", 40, 10)):
        for spread in (0.3, 1.0):
            # Each cluster has a checkpoint effect of its own on how its flips go, none on average.
            bias = rng.choice([-1, 1], size=(repeats, count)) * spread / 2
            flips = rng.binomial(size, 0.1, size=(repeats, count))
            lost = rng.binomial(flips, 0.5 + bias)
            net = flips - 2 * lost
            plain = mcnemar_exact(lost.sum(axis=1), (flips - lost).sum(axis=1), "drop") <= 0.05
            clustered = [cluster_drop_p(Clusters(one, np.full(count, size))) <= 0.05 for one in net]
            yield {
                "sampling unit": f"{count} {unit} x {size}",
                "effect": spread,
                "false alarms, pairs": float(plain.mean()),
                "false alarms, clusters": float(np.mean(clustered)),
            }


UNITS = ((10, 50), (20, 5), (40, 10), (100, 5), (500, 5))
"""(clusters, pairs of each): ten tasks, init states of several trials."""


def drawn_nets(law: str, drop: float, count: int, size: int, rng: np.random.Generator) -> Ints:
    """Gained minus lost pairs of clusters that were drawn from a law whose mean difference is exactly -drop."""
    chance = rng.random(count)
    if law == "even":
        lost = rng.binomial(size, 0.02 + drop, count)
        return rng.binomial(size - lost, 0.02 / (1 - 0.02 - drop)) - lost
    if law == "own rates":
        lost = rng.binomial(size, rng.beta((0.02 + drop) * 4, (0.98 - drop) * 4, count))
        return rng.binomial(size, rng.beta(0.02 * 4, 0.98 * 4, count)) - lost
    kind, share, worth = LAWS[law]
    if kind == "collapse":
        # Some lose every pair, some gain every pair, so that it comes to the drop.
        return np.where(chance < share + drop, -size, np.where(chance > 1 - share, size, 0))
    step = max(round(worth * size), 1)
    lose = (share + drop) * size / step
    return np.where(chance < lose, -step, np.where(chance > 1 - share, size, 0))


LAWS = {
    "some collapse whole": ("collapse", 0.0, 1.0),
    "some collapse, 5 % gain whole": ("collapse", 0.05, 1.0),
    "2 % gain whole, many lose a fifth": ("trade", 0.02, 0.2),
    "5 % gain whole, many lose a fifth": ("trade", 0.05, 0.2),
    "10 % gain whole, many lose a fifth": ("trade", 0.1, 0.2),
    "10 % gain whole, many lose two fifths": ("trade", 0.1, 0.4),
}
"""Name → (kind, share of clusters that gain every pair, share of its pairs that a losing cluster loses)."""


def cluster_verdicts(quick: bool) -> Iterator[Row]:
    """Gates by cluster, margin 3 points: false FAILs without a change on average, false PASSes at the margin, power."""
    rng = generator(20260312)
    for law in ("even", "own rates", *LAWS):
        for drop in (0.0, 0.03, *((0.1, 0.2) if LAWS.get(law, LAWS["some collapse whole"])[1] == 0 else ())):
            n_nights = (2_000 if drop < 0.1 else 300) // (10 if quick else 1)
            row: Row = {"law": law, "drop": drop}
            for count, size in UNITS:
                found = np.zeros(3)
                for _ in range(n_nights):
                    net = drawn_nets(law, drop, count, size, rng)
                    clusters = Clusters(net, np.full(count, size))
                    lost, gained = int(-net[net < 0].sum()), int(net[net > 0].sum())
                    counts = PairCounts(count * size - lost - gained, lost, gained, 0)
                    evidence = FixedEvidence(counts, clusters)
                    # The exact test of all pairs takes longest, and is asked only where the others let it decide.
                    within = unseen_collapse_p(clusters, -0.03) <= 0.05 and evidence.above(-0.03, 0.05)
                    alone = sign_flip_p(-net) <= 0.05
                    found += (alone and not within and evidence.drop(0.05), within, alone)
                name = f"{count} x {size}"
                row |= {f"FAIL {name}": found[0] / n_nights, f"PASS {name}": found[1] / n_nights}
                row |= {f"signs alone {name}": found[2] / n_nights} if drop == 0 else {}
            yield row


def errors(quick: bool) -> Iterator[Row]:
    """Infrastructure errors that hide outcomes on purpose, nothing changed, 500 pairs: false alarms of both designs.

    "Left out" is what the errors would do to a gate that only left them out. The gate also has to FAIL with errors as
    good for the candidate as they can have been, which is what is counted; a few nights go through its own code.
    """
    rng = generator(20260311)
    batches, n, size = (1 if quick else 10), 500, 2_000
    sizes = [n * (look + 1) // LOOKS for look in range(LOOKS)]
    rules = GateRules(success=SuccessRule(margin=0.03))
    for hidden in ("base failures", "candidate successes", "candidate failures"):
        for share in (0.3, 1.0):
            alarms, differ = np.zeros(3), 0
            for _ in range(batches):
                base, new = (rng.random((2, size, n)) < 0.9).astype(np.int8)
                hide = rng.random((size, n)) < share * (0.05 if hidden == "candidate successes" else 1)
                if hidden == "base failures":
                    base[hide & (base == 0)] = 2
                else:
                    new[hide & (new == (hidden == "candidate successes"))] = 2
                lost, gained = (base == 1) & (new == 0), (base != 1) & (new != 0)
                seen_lost, seen_gained = ((one & (base < 2) & (new < 2)).sum(axis=1) for one in (lost, gained))
                looks_lost, looks_gained = (one.reshape(size, LOOKS, -1).sum(axis=2) for one in (lost, gained))
                once, _ = decide(lost.sum(axis=1)[:, None], gained.sum(axis=1)[:, None], [n], 0.05)
                planned, _ = decide(looks_lost, looks_gained, sizes, 0.05)
                alarms += (
                    (mcnemar_exact(seen_lost, seen_gained, "drop") <= 0.05).mean(),
                    (once == -1).mean(),
                    (planned == -1).mean(),
                )
                for night in range(20):
                    table = PairTable(["all"], np.zeros(n, dtype=np.int64), base[night], new[night])
                    failed = judge_success(table, rules)[0].verdict is Verdict.FAIL
                    differ += failed and once[night] != -1
            left_out, fixed, sequential = (alarms / batches).tolist()
            yield {
                "hidden": hidden,
                "share": share,
                "left out": left_out,
                "fixed": fixed,
                "sequential": sequential,
                "checked": "DIFFERS" if differ else "same",
            }


def power(quick: bool) -> Iterator[Row]:
    """Episodes until a real drop of 3 points is shown, as a share of the fixed design's: alpha 5 %, power 80 %."""
    rng = generator(20260304)
    n_nights = 300 if quick else 1_500
    for flips in (0.04, 0.1, 0.2):
        fixed = pairs_needed(0.03, flips) or 0
        for inflated in np.arange(1.0, 1.31, 0.02):
            n = int(np.ceil(fixed * inflated))
            sizes = [n * (look + 1) // LOOKS for look in range(LOOKS)]
            steps = np.diff([0, *sizes])
            law = [(flips + 0.03) / 2, (flips - 0.03) / 2, 1 - flips]
            drawn = np.stack([rng.multinomial(step, law, size=n_nights) for step in steps], axis=1)
            found, used = decide(drawn[..., 0], drawn[..., 1], sizes, 0.05)
            if (found == -1).mean() >= 0.8:
                break
        yield {
            "flips": flips,
            "fixed episodes": fixed,
            "fixed power": drop_power(fixed, 0.03, flips),
            "sequential at most": n,
            "sequential power": float((found == -1).mean()),
            "sequential mean": float(used.mean()),
            "share of fixed": float(used.mean()) / fixed,
        }


def anytime(quick: bool) -> Iterator[Row]:
    """The e-process, looked at every 20 pairs up to 8,000: false alarms, and how much evidence no change gathers."""
    rng = generator(20260312)
    n_nights = 200 if quick else 2_000
    sizes = np.arange(20, 8_001, 20)
    for flips in (0.01, 0.04, 0.1, 0.3):
        drawn = rng.multinomial(20, [flips / 2, flips / 2, 1 - flips], size=(n_nights, sizes.size)).cumsum(axis=1)
        alarm = log_evidence_below(drawn[..., 1], drawn[..., 0], sizes, 0.0)
        good = log_evidence_above(drawn[..., 1], drawn[..., 0], sizes, -0.03)
        yield {
            "flips": flips,
            "false alarms": float((alarm >= np.log(20)).any(axis=1).mean()),
            "log evidence at 500": float(np.median(good[:, 24])),
            "at 2,000": float(np.median(good[:, 99])),
            "at 8,000": float(np.median(good[:, 399])),
            "PASS by 2,000": float((good[:, :100] >= np.log(20)).any(axis=1).mean()),
        }


GRASP, LIFT, OVER, PLACE = range(4)
WORTH = np.array([0.0, 0.25, 0.5, 0.75])
"""What a goal is worth that was lost at each of these stages: the stage reached before, by `SHARES`."""


class Chain(NamedTuple):
    """How an invented policy fails: each goal, in turn, has to pass four stages."""

    name: str
    goals: int
    base: tuple[float, float, float, float]
    """Chance to pass each stage: grasp, lift, carry over the target, place."""
    worse: tuple[int, ...]
    """Stages that the degraded candidate passes less often."""


CHAINS = (
    Chain("one goal, grasps degrade", 1, (0.96, 0.98, 0.98, 0.96), (GRASP,)),
    Chain("one goal, all stages degrade", 1, (0.96, 0.98, 0.98, 0.96), (GRASP, LIFT, OVER, PLACE)),
    Chain("one goal, only placing degrades", 1, (0.96, 0.98, 0.98, 0.96), (PLACE,)),
    Chain("two goals in turn, grasps degrade", 2, (0.93, 0.98, 0.97, 0.93), (GRASP,)),
    Chain("two goals in turn, all stages degrade", 2, (0.93, 0.98, 0.97, 0.93), (GRASP, LIFT, OVER, PLACE)),
)
ALIKE = 0.8
"""Probability that base and candidate draw the same luck at a stage: they meet the same init state and noise."""


def credit_pairs(rng: np.random.Generator, chain: Chain, lower: float, n: int) -> tuple[Floats, Floats]:
    """Scores of base and candidate, each of shape (n,); the candidate's `worse` stages pass less often by `lower`."""
    passes = np.array(chain.base)
    weaker = passes - lower * np.isin(np.arange(4), chain.worse)
    luck = rng.random((n, chain.goals, 4))
    other = np.where(rng.random(luck.shape) < ALIKE, luck, rng.random(luck.shape))
    return _credit(luck < passes, chain.goals), _credit(other < weaker, chain.goals)


def _credit(passed: NDArray[np.bool_], goals: int) -> Floats:
    """Scores of episodes from which stages they passed, shape (n, goals, 4)."""
    flat = passed.reshape(len(passed), -1)
    first = np.where(flat.all(axis=1), flat.shape[1], (~flat).argmax(axis=1))
    found: Floats = np.where(first == flat.shape[1], 1.0, (first // 4 + WORTH[first % 4]) / goals)
    return found


def lowering(chain: Chain, drop: float) -> float:
    """How much less often the degraded stages pass, so that success drops by `drop`."""
    passes = np.array(chain.base)

    def solved(lower: float) -> float:
        weaker = passes - lower * np.isin(np.arange(4), chain.worse)
        return float(weaker.prod() ** chain.goals)

    return float(optimize.brentq(lambda lower: solved(0.0) - drop - solved(lower), 0.0, 0.5))


def weigh_scores(differences: Floats, alpha: float, margin: float) -> tuple[Verdict, int]:
    """What the score rule says of a night, group-sequentially, and after how many pairs."""
    n = differences.size
    sizes = tuple(n * (look + 1) // LOOKS for look in range(LOOKS))
    parts = np.split(differences, sizes[:-1])
    for look in range(1, LOOKS + 1):
        evidence = ScoreEvidence(tuple(parts[:look]), sizes, anytime=False)
        if evidence.above(-margin, 0.05):
            return Verdict.PASS, sizes[look - 1]
        if evidence.worse(margin, alpha, 0.05):
            return Verdict.FAIL, sizes[look - 1]
        if evidence.futile(margin, alpha, 0.05):
            return Verdict.INCONCLUSIVE, sizes[look - 1]
    return Verdict.INCONCLUSIVE, n


def weigh_both(old: Floats, new: Floats) -> tuple[Verdict, int]:
    """A gate of a success rule and a score rule, which share alpha: the first FAIL counts, a PASS needs both."""
    n = old.size
    sizes = [n * (look + 1) // LOOKS for look in range(LOOKS)]
    net = np.array(
        [[((part < 0).sum(), (part > 0).sum()) for part in np.split((new == 1) * 1 - (old == 1), sizes[:-1])]]
    )
    verdicts, used = decide(net[..., 0], net[..., 1], sizes, 0.025)
    found = [
        weigh_scores(new - old, 0.025, 0.03),
        ((Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.FAIL)[verdicts[0]], int(used[0])),
    ]
    failed = [pairs for verdict, pairs in found if verdict is Verdict.FAIL]
    if failed:
        return Verdict.FAIL, min(failed)
    passed = all(verdict is Verdict.PASS for verdict, _ in found)
    return Verdict.PASS if passed else Verdict.INCONCLUSIVE, max(pairs for _, pairs in found)


def credit(quick: bool) -> Iterator[Row]:
    """Partial credit: pairs until a drop of success of 3 points shows in the score, over those of a fixed McNemar."""
    rng = generator(20260313)
    for chain in CHAINS:
        yield _credited(rng, chain, lambda old, new: weigh_scores(new - old, 0.05, 0.03), 50 if quick else 500)


def credit_both(quick: bool) -> Iterator[Row]:
    """The same by a gate that states a success rule as well, which shares alpha; laws of one goal."""
    rng = generator(20260317)
    for chain in CHAINS[:3]:
        yield _credited(rng, chain, weigh_both, 50 if quick else 200)


def _credited(
    rng: np.random.Generator, chain: Chain, rule: Callable[[Floats, Floats], tuple[Verdict, int]], n_nights: int
) -> Row:
    """What a rule needs for a power of some 80 %, measured on nights that did not choose the plan."""
    lower = lowering(chain, 0.03)
    old, new = credit_pairs(rng, chain, lower, 400_000)
    flips = float(((old == 1) != (new == 1)).mean())
    fixed = pairs_needed(0.03, flips) or 0
    draw = partial(credit_pairs, rng, chain, lower)
    low, n = int(0.3 * fixed), int(1.5 * fixed)
    while n - low > 0.03 * fixed:
        middle = (low + n) // 2
        low, n = (low, middle) if _power_of(rule, draw, middle, n_nights)[0] >= 0.8 else (middle, n)
    shown, used = _power_of(rule, draw, n, n_nights)
    return {
        "law": chain.name,
        "success of the base": float((old == 1).mean()),
        "flips": flips,
        "drop of the score": float((old - new).mean()),
        "fixed episodes": fixed,
        "planned": n,
        "power": shown,
        "mean pairs": used,
        "share of fixed": used / fixed,
    }


def _power_of(
    rule: Callable[[Floats, Floats], tuple[Verdict, int]],
    draw: Callable[[int], tuple[Floats, Floats]],
    n: int,
    n_nights: int,
) -> tuple[float, float]:
    """Share of FAILs and mean pairs of plans of n pairs."""
    found = [rule(*draw(n)) for _ in range(n_nights)]
    return float(np.mean([one is Verdict.FAIL for one, _ in found])), float(np.mean([used for _, used in found]))


def worths(quick: bool) -> Iterator[Row]:
    """Pairs to show a drop of success of 3 points by a mean score, over those by success, if stages were worth less.

    At one look, by the normal law. At 1 a failure scores what `credit` says, at 0 the score is success itself. The
    last column is a test that knew which outcomes of base and candidate become more frequent: nothing needs fewer.
    """
    rng = generator(20260316)
    draws = 200_000 if quick else 2_000_000
    for chain in CHAINS:
        old, new = credit_pairs(rng, chain, lowering(chain, 0.03), draws)
        needed = {}
        for worth in (0.0, 0.25, 0.5, 0.75, 1.0):
            found = np.where(new == 1, 1.0, worth * new) - np.where(old == 1, 1.0, worth * old)
            needed[worth] = (found**2).mean() / found.mean() ** 2
        kinds = np.unique(old)
        seen = np.zeros((kinds.size, kinds.size))
        np.add.at(seen, (np.searchsorted(kinds, old), np.searchsorted(kinds, new)), 1 / draws)
        told = (seen - seen.T) ** 2 / np.maximum(seen + seen.T, 1e-12)
        yield {
            "law": chain.name,
            **{f"worth {worth:g}": float(pairs / needed[0.0]) for worth, pairs in needed.items()},
            "at best": float(2 / told.sum() / needed[0.0]),
        }


def credit_nulls(quick: bool) -> Iterator[Row]:
    """Partial credit at 500 pairs: false alarms of the three designs when the mean did not change, and false PASSes."""
    rng = generator(20260314)
    n_nights, n = 200 if quick else 2_000, 500
    sizes = tuple(n * (look + 1) // LOOKS for look in range(LOOKS))
    laws: dict[str, Callable[[], tuple[Floats, Floats]]] = {
        f"nothing changed: {chain.name.partition(',')[0]}": partial(credit_pairs, rng, chain, 0.0, n)
        for chain in (CHAINS[0], CHAINS[-1])
    }
    for rate, small in ((0.01, 0.125), (0.02, 0.25), (0.05, 0.25), (0.05, 0.5)):
        name = f"{100 * rate:g} % gain a point, others lose {small:g}, same mean"
        laws[name] = partial(traded_pairs, rng, n, 0.0, rate, small)
    laws["the third, dropped by the margin"] = partial(traded_pairs, rng, n, 0.03, 0.05, 0.25)
    for name, law in laws.items():
        alarms = np.zeros(4)
        for _ in range(n_nights):
            old, new = law()
            looks = tuple(np.split(new - old, sizes[:-1]))
            planned = ScoreEvidence(looks, sizes, anytime=False)
            open_ended = [ScoreEvidence((new[:size] - old[:size],), (size,), anytime=True) for size in sizes]
            alarms += (
                ScoreEvidence((new - old,), (n,), anytime=False).drop(0.05),
                planned.drop(0.05),
                any(one.drop(0.05) for one in open_ended),
                planned.above(-0.03, 0.05),
            )
        fixed, sequential, anytime, passed = (alarms / n_nights).tolist()
        if "margin" in name:
            yield {"law": name, "false PASS": passed}
        else:
            yield {"law": name, "fixed": fixed, "sequential": sequential, "anytime": anytime}


def traded_pairs(rng: np.random.Generator, n: int, drop: float, rate: float, small: float) -> tuple[Floats, Floats]:
    """Scores of a base that fails some episodes at its first stage, and of a candidate that solves these.

    In return the candidate drops others late, so many that its mean is the base's, less `drop`.

    Args:
        rng: Source of the draws.
        n: Pairs.
        drop: How much the mean drops.
        rate: Share of episodes that the base fails.
        small: What the candidate loses in each that it drops.
    """
    failed = rng.random(n) < rate
    dropped = rng.random(n) < (rate + drop) / ((1 - rate) * small)
    return np.where(failed, 0.0, 1.0), np.where(failed | ~dropped, 1.0, 1.0 - small)


def steps(quick: bool) -> Iterator[Row]:
    """Step changes of a nightly series: false ones, and a drop of 3 points found after a few nights of 400 episodes."""
    rng = generator(20260307)
    repeats = 50 if quick else 400
    for nights_before in (10, 20, 30):
        for nights_after in (0, 1, 2, 3, 5):
            rates = np.r_[np.full(nights_before, 0.97), np.full(nights_after, 0.94)]
            series = rng.binomial(400, rates, size=(repeats, rates.size)) / 400
            found = np.mean([bool(find_steps(one, np.full(one.size, 400.0), rng)) for one in series])
            yield {"nights before": nights_before, "nights after": nights_after, "a step is shown": float(found)}


def wandering(quick: bool) -> Iterator[Row]:
    """False step changes of 60 nights that are like their neighbours, though nothing ever changed."""
    rng = generator(20260315)
    repeats = 50 if quick else 400
    for rho in (0.0, 0.3, 0.6):
        drawn = rng.standard_normal((repeats, 160))
        series = lfilter([np.sqrt(1 - rho**2)], [1, -rho], drawn, axis=1)[:, 100:]
        alarms = np.mean([bool(find_steps(one, np.ones(60), rng)) for one in series])
        yield {"nights": 60, "autocorrelation": rho, "a step is shown": float(alarms)}


def latency(quick: bool) -> Iterator[Row]:
    """Coverage of latency ratios, and alarms when the ratio is exactly at its limit; log-normal, autocorrelated."""
    rng = generator(20260305)
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
    "verdicts": verdicts,
    "cliffs": cliffs,
    "clusters": clusters,
    "cluster_verdicts": cluster_verdicts,
    "errors": errors,
    "anytime": anytime,
    "power": power,
    "credit": credit,
    "credit_both": credit_both,
    "worths": worths,
    "credit_nulls": credit_nulls,
    "steps": steps,
    "wandering": wandering,
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
    parser.add_argument("--seed", type=int, help="fresh draws: those that nothing was tuned on")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {','.join(PARTS)}")
    options = parser.parse_args()
    FRESH[:] = [] if options.seed is None else [options.seed]
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
