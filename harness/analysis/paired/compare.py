"""Two checkpoints on the same episodes: what changed, by how much, and how sure that is. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.analysis.intervals import Interval, rate_interval
from harness.analysis.latency.comparison import LatencyComparison, compare_latency
from harness.analysis.paired.crossings import MACHINE, crossings
from harness.analysis.paired.overlap import FailureOverlap, failure_overlap
from harness.analysis.paired.pairing import (
    ERROR,
    SUCCESS,
    TIMEOUT,
    Codes,
    Pairing,
    Side,
    match_variants,
    pair,
    read_sides,
    require_same_protocol,
    restrict,
)
from harness.analysis.paired.power import minimum_detectable_drop, pairs_needed
from harness.analysis.paired.score import drop_p, mean_interval
from harness.analysis.paired.statistics import PairCounts, difference_interval, holm, mcnemar_exact
from harness.analysis.paired.wall_clock import EvaluationTime, evaluation_time
from harness.errors import UsageError
from harness.ledger import TABLES, Ledger, open_ledger
from harness.notebook import ShownInNotebooks

HOW_ACROSS = "Probe both on one machine, or say `--hardware any` (in a rule of a gate, `hardware: any`)."
"""What to do about two machines."""

HOW_ENERGY = "Probe both with one kind of meter, or say `--energy any` (in a rule of a gate, `source: any`)."
"""What to do about two sources of an energy."""

LEAST_FLIPS = 0.01
"""Share of flips that is supposed of pairs to come where fewer were seen."""

MAX_FLIPS = 1000
"""Flips that are listed one by one; all are counted."""


Direction = Literal["lost", "gained", "missed"]
"""Who solved an episode: "lost": only the base; "gained": only the candidate; "missed": neither."""


@dataclass(frozen=True)
class ListedPair:
    """An episode that one side or both did not solve."""

    direction: Direction
    episode_key: str
    suite: str | None
    task_id: int | None
    task: str | None
    init_state_id: int | None
    trial: int | None
    base_video: str | None
    """Path or URI of the base's video, if it was filmed."""
    candidate_video: str | None


@dataclass(frozen=True)
class GroupComparison:
    """Paired success over some episodes: everything, a suite, or a task. Errors are left out."""

    suite: str | None
    """None for all suites together."""
    task_id: int | None
    """None for a whole suite."""
    task: str | None
    counts: PairCounts
    """Pairs in which both sides have a result."""
    counts_with_errors: PairCounts
    """All pairs, errors as bad for the candidate as they can have been: its own failures, the base's successes."""
    base: Interval
    """Clopper-Pearson interval of the base's rate over these pairs."""
    candidate: Interval
    difference: Interval
    """Interval of candidate minus base."""
    p: float
    """Exact McNemar, two-sided."""
    p_adjusted: float
    """After Holm's correction over the table's rows; equal to `p` for the overall row."""

    @property
    def base_rate(self) -> float:
        """Success rate of the base over these pairs; NaN without pairs."""
        return (self.counts.both + self.counts.lost) / self.counts.n if self.counts.n else float("nan")

    @property
    def candidate_rate(self) -> float:
        """Success rate of the candidate over these pairs; NaN without pairs."""
        return (self.counts.both + self.counts.gained) / self.counts.n if self.counts.n else float("nan")


@dataclass(frozen=True)
class ScoreComparison:
    """Partial credit over the pairs in which both sides have it."""

    n: int
    base: float
    """Mean score."""
    candidate: float
    difference: Interval
    """Interval of the mean of candidate minus base, by betting."""
    p_drop: float
    """Sign-flip test of "no drop"."""


@dataclass(frozen=True)
class SuccessComparison:
    """Success of one base and one candidate."""

    base: Side
    candidate: Side
    pairing: Pairing
    errors_base: int
    """Infrastructure errors among the base's paired episodes."""
    errors_candidate: int
    """Infrastructure errors among the candidate's paired episodes."""
    overall: GroupComparison
    suites: tuple[GroupComparison, ...]
    tasks: tuple[GroupComparison, ...]
    flips: tuple[ListedPair, ...]
    """Episodes whose outcome changed: at most `MAX_FLIPS`, losses first."""
    missed: tuple[ListedPair, ...]
    """Episodes that both failed: at most `MAX_FLIPS`."""
    overlap: FailureOverlap | None
    """Failures in common against chance; None where a side has none."""
    score: ScoreComparison | None
    """Partial credit; None where a side has none."""
    detectable_drop: float | None
    """Smallest real drop that so many pairs show with 80 % power, two-sided 5 %; None when there is none."""
    times: tuple[EvaluationTime | None, EvaluationTime | None] = (None, None)
    """Wall time of base and candidate, all episodes of either; None where a ledger holds none."""

    @property
    def n(self) -> int:
        """Paired episodes, errors included."""
        return int(self.pairing.base_rows.size)

    def pairs_to_show(self, difference: float) -> int | None:
        """Pairs that show a real difference of rates with 80 % power, if as many of them flip as did here.

        By the test whose p value stands beside the difference: two-sided 5 %. None beyond counting.
        """
        return pairs_needed(difference, max(self.overall.counts.discordance, LEAST_FLIPS), sides=2)


@dataclass(frozen=True)
class Comparison(ShownInNotebooks):
    """Everything that two ledgers say about each other."""

    base: str
    candidate: str
    success: tuple[SuccessComparison, ...]
    """One per pair of variants (policy and NFE)."""
    latency: tuple[LatencyComparison, ...]
    """One per hardware, NFE, batch size and component that both sides measured."""
    confidence: float
    """Level of every interval."""
    notices: tuple[str, ...] = ()
    """What to know before the numbers, in sentences."""

    @property
    def no_pairs(self) -> str | None:
        """Why nothing was paired although both sides have episodes; None when something was."""
        if not self.success or any(success.n for success in self.success):
            return None
        old, new = sum(one.base.n for one in self.success), sum(one.candidate.n for one in self.success)
        return (
            f"no pairs: {self.base} ({old} episodes) and {self.candidate} ({new} episodes) have no episode in common. "
            "Run or import the same tasks, init states, trials and seeds on both sides."
        )


@dataclass(frozen=True)
class Choice:
    """Which variants of the two ledgers to compare; None takes every one that both sides have."""

    base_policy: str | None = None
    base_nfe: int | None = None
    policy: str | None = None
    nfe: int | None = None
    base_clock: str | None = None
    """Clock, or "CLOCK:SOURCE OF DELAYS"."""
    clock: str | None = None


def compare(
    base: str | Path | Ledger,
    candidate: str | Path | Ledger,
    *,
    choice: Choice | None = None,
    keys: Collection[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    across: bool = False,
    energy: Literal["same", "any"] = "same",
    allow: Collection[str] = (),
) -> Comparison:
    """Compare two ledgers, pairing episodes by key.

    Args:
        base: Ledger of what is in use, by path or open.
        candidate: Ledger of what might replace it.
        choice: Which policy and NFE on either side.
        keys: Only these episodes of the candidate; None for all.
        confidence: Level of every interval, two-sided.
        seed: Of the latency bootstrap.
        across: Whether latency, energy and memory of two machines may be compared.
        energy: Whether energies of two sources, a counter and power × time, may be compared.
        allow: "clock": rows of two clocks may be paired.

    Raises:
        LedgerError: No ledger at a path, a damaged part, one policy with two checkpoints.
        UsageError: The protocols differ (names key and values), or it is unclear which variants belong together.
    """
    chosen = choice or Choice()
    base, candidate = open_ledger(base), open_ledger(candidate)
    sides = (
        read_sides(base, policy=chosen.base_policy, nfe=chosen.base_nfe, clock=chosen.base_clock),
        read_sides(candidate, policy=chosen.policy, nfe=chosen.nfe, clock=chosen.clock),
    )
    matched = match_variants(*sides, allow_clock="clock" in allow)
    if keys is not None:
        matched = [(old, restrict(new, keys)) for old, new in matched]
    for old, new in matched:
        require_same_protocol(old, new)
    rng = np.random.default_rng(seed)
    latency, refused = compare_latency(
        base,
        candidate,
        rng,
        base_variant=(chosen.base_policy, chosen.base_nfe),
        candidate_variant=(chosen.policy, chosen.nfe),
        confidence=confidence,
        across=across,
        energy=energy,
    )
    energies = dict.fromkeys(f"{one.energy_refused} {HOW_ENERGY}" for one in latency if one.energy_refused)
    if not matched and not latency:
        told = " ".join([*refused, HOW_ACROSS]) if refused else "No latency of the same NFE, batch size and component."
        raise UsageError(
            f"{base.path!r} and {candidate.path!r} have nothing in common to compare. No episodes on both sides. {told}"
        )
    return Comparison(
        base=base.path,
        candidate=candidate.path,
        success=tuple(
            replace(
                compare_success(old, new, confidence),
                times=(evaluation_time(base, old), evaluation_time(candidate, new)),
            )
            for old, new in matched
        ),
        latency=tuple(latency),
        confidence=confidence,
        notices=(
            *_notices(base, candidate, matched),
            *(f"{sentence} {HOW_ACROSS}" for sentence in refused),
            *energies,
        ),
    )


def _notices(base: Ledger, candidate: Ledger, matched: Sequence[tuple[Side, Side]]) -> Iterator[str]:
    """What to know of two ledgers before their numbers."""
    yield from side_notices([side for pair in matched for side in pair])
    if matched:
        yield from machine_notices([base, candidate])
        yield from crossings(base, candidate, matched)


def side_notices(sides: Iterable[Side]) -> Iterator[str]:
    """What to know of checkpoints' episodes before their numbers."""
    for path, label, contradictory in dict.fromkeys((side.path, side.label, side.contradictory) for side in sides):
        if contradictory:
            yield (
                f"{path}, {label}: {len(contradictory)} episodes finished more than once with different outcomes, "
                "though they have one key; the last one is counted."
            )


def machine_notices(ledgers: Sequence[Ledger]) -> Iterator[str]:
    """In what the machines differ that ledgers were made on."""
    for column, name in MACHINE.items():
        found = list(dict.fromkeys(", ".join(values) for ledger in ledgers if (values := _values(ledger, column))))
        if len(found) > 1:
            which = "The two" if len(ledgers) == 2 else "They"
            yield (
                f"{which} ran on different {name} ({' against '.join(found)}): single episodes can end otherwise for "
                "that reason alone."
            )


def _values(ledger: Ledger, column: str) -> list[str]:
    if column not in TABLES["nodes"].names:
        return []
    return sorted({str(value) for value in ledger.rows("nodes")[column].to_pylist() if value is not None})


def compare_success(base: Side, candidate: Side, confidence: float = 0.95) -> SuccessComparison:
    """Compare the episodes of two sides."""
    pairing = pair(base, candidate)
    old, new = base.outcomes[pairing.base_rows], candidate.outcomes[pairing.candidate_rows]
    details = base.details.take(pa.array(pairing.base_rows))
    overall = next(_groups(old, new, np.zeros(old.size, dtype=np.int64), [(None, None, None)], confidence))
    suite_codes, suite_names = _codes_of(details, ["suite"])
    task_codes, task_names = _codes_of(details, ["suite", "task_id", "task"])
    suites = _groups(old, new, suite_codes, [(suite, None, None) for (suite,) in suite_names], confidence)
    tasks = _groups(old, new, task_codes, [(name[0], name[1], name[2]) for name in task_names], confidence)
    counts = overall.counts
    return SuccessComparison(
        base=base,
        candidate=candidate,
        pairing=pairing,
        errors_base=int((old == ERROR).sum()),
        errors_candidate=int((new == ERROR).sum()),
        overall=overall,
        suites=_with_holm(suites),
        tasks=_with_holm(tasks),
        flips=tuple(_flips(base, candidate, pairing, old, new)),
        missed=tuple(_missed(base, candidate, pairing, old, new)),
        overlap=failure_overlap(old == SUCCESS, new == SUCCESS, task_codes, (old != ERROR) & (new != ERROR)),
        score=compare_scores(base, candidate, pairing, confidence),
        detectable_drop=minimum_detectable_drop(counts.n, counts.discordance, sides=2) if counts.n else None,
    )


def compare_scores(base: Side, candidate: Side, pairing: Pairing, confidence: float) -> ScoreComparison | None:
    """Compare the partial credit of pairs; None where no pair has it on both sides."""
    if base.scores is None or candidate.scores is None:
        return None
    old, new = base.scores[pairing.base_rows], candidate.scores[pairing.candidate_rows]
    known = ~np.isnan(old) & ~np.isnan(new)
    if not known.any():
        return None
    old, new = old[known], new[known]
    interval = mean_interval(new - old, confidence)
    return ScoreComparison(int(known.sum()), float(old.mean()), float(new.mean()), interval, drop_p(new - old))


def _codes_of(details: pa.Table, columns: list[str]) -> tuple[NDArray[np.int64], list[tuple[Any, ...]]]:
    """Number the distinct values of some columns: (code of each row, values of each code), sorted by value."""
    codes = np.zeros(details.num_rows, dtype=np.int64)
    for name in columns:
        encoded = details[name].combine_chunks().dictionary_encode(null_encoding="encode")
        codes = codes * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy()
    _, first, numbers = np.unique(codes, return_index=True, return_inverse=True)
    rows = details.select(columns).take(pa.array(first)).to_pylist()
    values = [tuple(row[name] for name in columns) for row in rows]
    order = sorted(range(len(values)), key=lambda code: tuple((part is not None, part) for part in values[code]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[numbers.ravel()], [values[code] for code in order]


def _groups(
    base: Codes,
    candidate: Codes,
    codes: NDArray[np.int64],
    names: list[tuple[str | None, int | None, str | None]],
    confidence: float,
) -> Iterator[GroupComparison]:
    """Compare every group of rows; one pass over the rows for all groups."""
    cells = np.bincount(codes * 9 + base * 3 + candidate, minlength=9 * len(names)).reshape(-1, 3, 3)
    for (suite, task_id, task), cell in zip(names, cells, strict=True):
        fail, win = 0, SUCCESS
        counts = PairCounts(int(cell[win, win]), int(cell[win, fail]), int(cell[fail, win]), int(cell[fail, fail]))
        strict = PairCounts(
            both=counts.both + int(cell[ERROR, win]),
            lost=counts.lost + int(cell[win, ERROR] + cell[ERROR, fail] + cell[ERROR, ERROR]),
            gained=counts.gained,
            neither=counts.neither + int(cell[fail, ERROR]),
        )
        p = float(mcnemar_exact(counts.lost, counts.gained))
        yield GroupComparison(
            suite=suite,
            task_id=task_id,
            task=task,
            counts=counts,
            counts_with_errors=strict,
            base=rate_interval(counts.both + counts.lost, counts.n, confidence),
            candidate=rate_interval(counts.both + counts.gained, counts.n, confidence),
            difference=difference_interval(counts, confidence),
            p=p,
            p_adjusted=p,
        )


def _with_holm(groups: Iterator[GroupComparison]) -> tuple[GroupComparison, ...]:
    found = list(groups)
    adjusted = holm([group.p for group in found])
    return tuple(replace(group, p_adjusted=float(p)) for group, p in zip(found, adjusted, strict=True))


def _flips(base: Side, candidate: Side, pairing: Pairing, old: Codes, new: Codes) -> Iterator[ListedPair]:
    scored = (old != ERROR) & (new != ERROR)
    lost = np.flatnonzero(scored & (old == SUCCESS) & (new != SUCCESS))
    gained = np.flatnonzero(scored & (old != SUCCESS) & (new == SUCCESS))
    # Both directions get room in the list, however many there are of one.
    room = max(MAX_FLIPS - gained.size, MAX_FLIPS // 2)
    yield from _listed("lost", base, candidate, pairing, lost[:room])
    yield from _listed("gained", base, candidate, pairing, gained[: MAX_FLIPS - min(lost.size, room)])


def _missed(base: Side, candidate: Side, pairing: Pairing, old: Codes, new: Codes) -> Iterator[ListedPair]:
    return _listed("missed", base, candidate, pairing, np.flatnonzero((old == TIMEOUT) & (new == TIMEOUT))[:MAX_FLIPS])


def _listed(
    direction: Direction, base: Side, candidate: Side, pairing: Pairing, chosen: NDArray[np.int64]
) -> Iterator[ListedPair]:
    """Pairs by their place in the pairing, with what is known of them."""
    base_rows, candidate_rows = pairing.base_rows[chosen], pairing.candidate_rows[chosen]
    details = base.details.take(pa.array(base_rows)).to_pylist()
    keys = base.keys.take(pa.array(base_rows)).to_pylist()
    videos = candidate.details["video"].take(pa.array(candidate_rows)).to_pylist()
    for row, key, video in zip(details, keys, videos, strict=True):
        yield ListedPair(
            direction=direction,
            episode_key=key,
            suite=row["suite"],
            task_id=row["task_id"],
            task=row["task"],
            init_state_id=row["init_state_id"],
            trial=row["trial"],
            base_video=_inside(base.path, row["video"]),
            candidate_video=_inside(candidate.path, video),
        )


def _inside(ledger: str, video: str | None) -> str | None:
    if not video or video.startswith("/") or "://" in video:
        return video or None
    return f"{ledger.rstrip('/')}/{video}"
