"""Comparisons and gates as tables of text: the same figures in the terminal and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.analysis.intervals import Interval
from harness.analysis.latency.comparison import LatencyComparison, telling_names
from harness.analysis.latency.launches import WITHIN
from harness.analysis.latency.ratios import MIN_EFFECTIVE, QuantileRatio
from harness.analysis.paired.attribution import Attribution, Flake
from harness.analysis.paired.compare import (
    LEAST_FLIPS,
    Comparison,
    Direction,
    GroupComparison,
    ListedPair,
    SuccessComparison,
)
from harness.analysis.paired.matrix import Matrix
from harness.analysis.paired.wall_clock import EvaluationTime
from harness.gate.judge import GateResult
from harness.gate.rerun import Plan
from harness.report.format import NONE, count, duration, number, percent, points, probability, task_name, text
from harness.report.tables.table import Table

MAX_LISTED = 20
"""Episodes listed in each direction; the JSON has more."""


def rule_table(result: GateResult) -> Table:
    """Every rule with its verdict and reason."""
    return Table(
        title="Rules",
        columns=("Rule", "Verdict", "Why"),
        rows=tuple((found.rule, found.shown, found.reason) for found in result.results),
        left=3,
        note=(
            f"False alarms of all rules together: at most {percent(result.rules.alpha)} when nothing changed; "
            f"design: {result.rules.design}."
        ),
    )


def success_rows(success: SuccessComparison) -> Table:
    """Overall, then suite by suite."""
    groups = [success.overall, *(success.suites if len(success.suites) > 1 else ())]
    return Table(
        title=f"Success: {success.base.label} → {success.candidate.label}",
        columns=("Episodes", "Pairs", "Base", "Candidate", "Difference", "Lost", "Gained", "McNemar p"),
        rows=tuple(_group(group, group.suite or "all") for group in groups),
        left=1,
        note=_success_note(success),
    )


def task_rows(success: SuccessComparison) -> Table:
    """Task by task, with Holm's correction."""
    return Table(
        title="Tasks",
        columns=("Task", "Pairs", "Base", "Candidate", "Difference", "Lost", "Gained", "Holm p"),
        rows=tuple(_group(group, _task_name(group) or NONE) for group in success.tasks),
        left=1,
        note="p values corrected over the tasks by Holm's method.",
    )


def listed_rows(success: SuccessComparison, direction: Direction) -> Table:
    """Episodes that one side lost or gained, or that both missed, with their videos."""
    listed, total = listed_pairs(success, direction)
    return Table(
        title=f"{TITLES[direction]}: {count(total)}",
        columns=("Task", "Init state", "Trial", "Base video", "Candidate video", "Episode key"),
        rows=tuple(_flip(flip) for flip in listed[:MAX_LISTED]),
        left=1,
        note=" ".join(filter(None, (more_flips(total, len(listed)), overlap_text(success, direction)))),
    )


TITLES: Mapping[Direction, str] = {"lost": "Lost", "gained": "Gained", "missed": "Failed in both"}


def listed_pairs(success: SuccessComparison, direction: Direction) -> tuple[Sequence[ListedPair], int]:
    """Episodes of a direction that the comparison keeps, and how many there are in all."""
    counts = success.overall.counts
    if direction == "missed":
        return success.missed, counts.neither
    kept = [flip for flip in success.flips if flip.direction == direction]
    return kept, counts.lost if direction == "lost" else counts.gained


def overlap_text(success: SuccessComparison, direction: Direction = "missed") -> str:
    """Common failures against chance, in a sentence; nothing for the other directions."""
    found = success.overlap
    if direction != "missed" or found is None:
        return ""
    return (
        f"The base fails {count(found.base_failures)} and the candidate {count(found.candidate_failures)} of "
        f"{count(found.n)} episodes, {count(found.both)} in common. By chance: {number(found.expected)} (p of so many "
        f"{probability(found.p)}, Fisher's exact test); given the failures of each task, "
        f"{number(found.expected_in_tasks)} (p {probability(found.p_in_tasks)})."
    )


def time_rows(success: SuccessComparison) -> Table:
    """Wall time of the two evaluations."""
    rows = [
        (
            name,
            found.label,
            count(found.episodes),
            duration(found.elapsed_s),
            duration(found.episode_s),
            percent(found.policy_share),
            percent(found.simulator_share),
        )
        for name, found in zip(("base", "candidate"), success.times, strict=True)
        if found is not None
    ]
    return Table(
        title="Wall time",
        columns=("", "Policy", "Episodes", "Elapsed", "An episode", "Waits for policy", "Simulator"),
        rows=tuple(rows),
        left=2,
        note=_time_note(success.times),
    )


def _time_note(times: Sequence[EvaluationTime | None]) -> str:
    old, new = times
    notes = []
    if old and new and old.elapsed_s and new.elapsed_s:
        notes.append(f"Elapsed, candidate / base: {new.elapsed_s / old.elapsed_s:.3f}.")
    if old and new and old.episode_s and new.episode_s:
        notes.append(f"An episode: {new.episode_s / old.episode_s:.3f}.")
    if any(found and found.imported for found in times):
        notes.append(
            "Elapsed of an imported file is its eval_s, one figure that is not split into policy and simulator."
        )
    notes.append(
        "Elapsed: time in which any of these episodes was under way, by all workers; an episode: mean seconds of one "
        "worker, failures take longest. Simulator: reset, physics and rendering. One evaluation each: no interval."
    )
    return " ".join(notes)


def more_flips(total: int, kept: int) -> str:
    """Say where the episodes are that a list leaves out; nothing where it holds all.

    Args:
        total: Episodes in this direction.
        kept: Those of them that the comparison, and with it the JSON, keeps.
    """
    if total <= MAX_LISTED:
        return ""
    listed = "all of them" if kept == total else f"{count(kept)} of them"
    return f"{count(total - MAX_LISTED)} more; --json FILE lists {listed}."


def latency_rows(latency: Sequence[LatencyComparison]) -> Table:
    """Component by component."""
    return Table(
        title="Latency",
        columns=(
            *("Where", "Component", "Launches", "Median ms", "Ratio", "p99 ms", "Ratio", "Slower", "p", "Energy"),
            "Memory",
        ),
        rows=tuple(map(_latency, latency, telling_names([item.candidate for item in latency]))),
        left=2,
        note=(
            "Ratios are candidate / base with 95 % intervals: Welch's t on the log quantile of each launch, about "
            f"launches like these. {WITHIN.capitalize()}: a side has one launch, and the interval (bootstrap, "
            "effective number of samples) holds for these very processes; another launch may differ by more. "
            "p: of the median, over launches. "
            "Slower: probability that a sample of the candidate exceeds one of the base (Mann-Whitney), from "
            f"{MIN_EFFECTIVE} samples a side."
        ),
    )


def matrix_table(matrix: Matrix) -> Table:
    """Checkpoints, best first."""
    return Table(
        title="Checkpoints",
        columns=("Checkpoint", "Ledger", "Success", "95 %", "Episodes", "Errors", "Group"),
        rows=tuple(
            (
                entry.side.label,
                entry.side.path,
                percent(entry.successes / entry.n) if entry.n else NONE,
                interval_text(entry.interval),
                count(entry.n),
                count(entry.errors),
                entry.letters,
            )
            for entry in matrix.entries
        ),
        left=2,
        note=(
            "Checkpoints that share a letter cannot be told apart (exact McNemar on their common episodes, Holm over "
            f"{len(matrix.comparisons)} comparisons, {percent(matrix.alpha)}). "
            f"Best: {' or '.join(f'{entry.side.label} ({entry.side.path})' for entry in matrix.best)}."
        ),
    )


def matrix_pairs_table(matrix: Matrix) -> Table:
    """Every pair of checkpoints."""
    return Table(
        title="Pairs of checkpoints",
        columns=("Better", "Other", "Pairs", "Difference", "Flips", "Holm p"),
        rows=tuple(
            (
                f"{result.base.label} ({result.base.path})",
                f"{result.candidate.label} ({result.candidate.path})",
                count(result.overall.counts.n),
                _lead(result.overall),
                f"{result.overall.counts.lost} / {result.overall.counts.gained}",
                probability(p),
            )
            for result, p in matrix.comparisons
        ),
        left=2,
        note="Difference: points that the better solves more. Flips: solved only by the better / only by the other.",
    )


def attribution_table(plan: Plan, found: Attribution) -> Table:
    """What the reruns of the flipped episodes say."""
    rows = [
        ("flips run again", count(found.flips), ""),
        ("base repeats itself", *_repeats(found.base_flake)),
        ("candidate repeats itself", *_repeats(found.candidate_flake)),
        ("stable flips", count(found.stable), ""),
        *((f"caused by {_CAUSES[cause]}", count(n), "") for cause, n in found.causes.items()),
        ("checkpoint", "", plan.checkpoint or "equal"),
        ("runtime", "", plan.runtime or "equal"),
        ("verdict", "", f"{found.verdict}: {found.reason}"),
    ]
    return Table(title="Attribution", columns=("", "Episodes", "What"), rows=tuple(rows), left=1)


_CAUSES = {
    "checkpoint": "the checkpoint alone",
    "runtime": "the runtime alone",
    "either": "either alone",
    "together": "only both together",
}


def _repeats(flake: Flake) -> tuple[str, str]:
    return (
        f"{flake.n - flake.changed} / {flake.n}",
        f"flake rate {percent(flake.rate)} ({interval_text(flake.interval)})",
    )


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Everything about a comparison, in reading order; tables without rows are left out."""
    tables: list[Table] = []
    for success in comparison.success:
        tables += [
            success_rows(success),
            task_rows(success),
            *(listed_rows(success, direction) for direction in TITLES),
        ]
        tables.append(time_rows(success))
    tables.append(latency_rows(comparison.latency))
    return [table for table in tables if table.rows]


def interval_text(interval: Interval | None) -> str:
    """An interval of rates: "95.2–98.1 %"."""
    return f"{100 * interval.low:.1f}–{100 * interval.high:.1f} %" if interval else NONE


def _success_note(success: SuccessComparison) -> str:
    counts, pairing = success.overall.counts, success.pairing
    parts = [
        f"Unpaired: {count(pairing.only_base)} only in the base, {count(pairing.only_candidate)} only in the "
        "candidate.",
        f"Infrastructure errors among the pairs: {success.errors_base} base, {success.errors_candidate} candidate; "
        "left out of every rate.",
    ]
    if counts.n:
        if success.detectable_drop is None:
            parts.append(f"{count(counts.n)} pairs can show no drop at all with 80 % power.")
        else:
            flips = max(counts.discordance, LEAST_FLIPS)
            parts.append(
                f"Smallest difference that these pairs show with 80 % power (two-sided 5 %): "
                f"{100 * success.detectable_drop:.1f} points; with {100 * flips:.1f} % flips, 3 points need "
                f"{count(success.pairs_to_show(0.03))} pairs and 1 point needs {count(success.pairs_to_show(0.01))}."
            )
    if (score := success.score) is not None:
        low, high = score.difference
        parts.append(
            f"Partial credit over {count(score.n)} pairs: mean score {score.base:.3f} → {score.candidate:.3f}, "
            f"difference {score.candidate - score.base:+.3f} ({low:+.3f} … {high:+.3f} by betting), sign-flip p of a "
            f"drop {probability(score.p_drop)}."
        )
    parts.append("Rates: Clopper-Pearson; difference: Tango's score interval with Edwards' correction; 95 %.")
    return " ".join(parts)


def _group(group: GroupComparison, name: str) -> tuple[str, ...]:
    if not group.counts.n:
        return (name, "0", NONE, NONE, NONE, NONE, NONE, NONE)
    return (
        name,
        count(group.counts.n),
        f"{percent(group.base_rate)} ({interval_text(group.base)})",
        f"{percent(group.candidate_rate)} ({interval_text(group.candidate)})",
        _difference(group),
        count(group.counts.lost),
        count(group.counts.gained),
        probability(group.p_adjusted),
    )


def _difference(group: GroupComparison) -> str:
    low, high = group.difference
    return f"{points(group.counts.difference)} ({points(low)} … {points(high)})"


def _lead(group: GroupComparison) -> str:
    """By how much the base is better."""
    low, high = group.difference
    return f"{points(-group.counts.difference)} ({points(-high)} … {points(-low)})"


def _task_name(task: GroupComparison | ListedPair) -> str:
    place = f"{task.suite or ''} {task.task_id if task.task_id is not None else ''}".strip()
    return f"{place}: {task_name(task.task)}" if task.task else place


def _flip(flip: ListedPair) -> tuple[str, ...]:
    name = _task_name(flip) or flip.episode_key[:12]
    return (
        name,
        text(flip.init_state_id),
        text(flip.trial),
        text(flip.base_video),
        text(flip.candidate_video),
        flip.episode_key[:12],
    )


def _latency(item: LatencyComparison, names: Sequence[str]) -> tuple[str, ...]:
    return (
        _where(item, names),
        item.candidate.component,
        _launches(item),
        f"{number(item.median.base)} → {number(item.median.candidate)}",
        _ratio(item.median),
        f"{number(item.p99.base)} → {number(item.p99.candidate)}",
        _ratio(item.p99),
        NONE if item.slower is None else percent(item.slower),
        probability(item.median.p),
        _energy(item),
        _change(item.base.memory_bytes, item.candidate.memory_bytes, 2**30, "GiB"),
    )


def _energy(item: LatencyComparison) -> str:
    old, new = item.base.energy_source, item.candidate.energy_source
    if old == new or None in (old, new):
        return _change(item.base.energy_j, item.candidate.energy_j, 1, "J")
    sides = " → ".join(f"{number(side.energy_j)} J ({side.energy_source})" for side in (item.base, item.candidate))
    return f"{sides}, not compared" if item.energy_refused else sides


def _where(item: LatencyComparison, names: Sequence[str]) -> str:
    def both(old: object, new: object) -> str:
        return str(new) if old == new else f"{old} → {new}"

    same = item.base.machine.is_like(item.candidate.machine)
    parts = [item.candidate.machine.name if same else both(item.base.machine.name, item.candidate.machine.name)]
    if item.base.policy_id != item.candidate.policy_id or item.candidate.policy_id in names:
        parts.append(both(item.base.policy_id, item.candidate.policy_id))
    if item.candidate.nfe is not None or item.base.nfe is not None:
        parts.append(f"NFE {both(item.base.nfe, item.candidate.nfe)}")
    if item.candidate.batch_size not in (None, 1):
        parts.append(f"batch {item.candidate.batch_size}")
    if item.base.build != item.candidate.build or item.candidate.build in names:
        parts.append(both(item.base.build, item.candidate.build))
    return ", ".join(parts)


def _launches(item: LatencyComparison) -> str:
    counts = f"{len(item.base.launches)} → {len(item.candidate.launches)}"
    return f"{counts}, {WITHIN}" if item.median.within else counts


def _ratio(ratio: QuantileRatio) -> str:
    if math.isnan(ratio.ratio):
        return NONE
    ends = f"({ratio.interval.low:.3f}–{ratio.interval.high:.3f})" if ratio.interval else "(too few samples)"
    return f"{ratio.ratio:.3f} {ends}"


def _change(base: float | None, candidate: float | None, scale: int, unit: str) -> str:
    """Both figures in a unit of `scale`; nothing where one is unknown."""
    if base is None or candidate is None:
        return NONE
    return f"{number(base / scale)} → {number(candidate / scale)} {unit}"
