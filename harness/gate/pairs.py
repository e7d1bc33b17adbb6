"""Pairs of episodes as the rules weigh them: three views of the errors, over everything and task by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from harness.analysis.intervals import Floats, Ints
from harness.analysis.paired.clusters import Clusters
from harness.analysis.paired.pairing import ERROR, SUCCESS, TIMEOUT, Codes
from harness.analysis.paired.statistics import PairCounts
from harness.gate.evidence import AnytimeEvidence, Evidence, FixedEvidence, LookEvidence

View = Literal["scored", "worst", "best"]
"""What is made of infrastructure errors: left out; or as bad, or as good, for the candidate as they can have been."""


@dataclass(frozen=True)
class GroupEvidence:
    """Evidence about one task, or about everything."""

    name: str
    scored: Evidence
    """Errors left out."""
    worst: Evidence
    """An error of the candidate is a failure, one of the base a success: what a PASS has to stand."""
    best: Evidence
    """An error of the candidate is a success, one of the base a failure: what a FAIL has to stand."""

    @property
    def errors(self) -> int:
        """Pairs in which a side has an error."""
        return self.worst.counts.n - self.scored.counts.n

    def views(self) -> tuple[Evidence, Evidence, Evidence]:
        """Scored, worst, best."""
        return self.scored, self.worst, self.best


@dataclass(frozen=True, eq=False)
class PairTable:
    """Pairs, one row each."""

    names: Sequence[str]
    """Name of each task."""
    task: Ints
    """Task of each pair, an index into `names`."""
    base: Codes
    """Outcome codes of the base; see `analysis.paired.pairing`."""
    candidate: Codes
    cluster: Ints | None = None
    """Cluster of each pair; None when every pair is independent."""
    rounds: Ints | None = None
    """Planned look at which each pair counts first, from 0; None without a plan of looks."""
    planned: Ints | None = None
    """Pairs that the plan has, by look and task, shape (looks, tasks)."""
    complete: int | None = None
    """Looks whose pairs are there, of a run that was cut off; None where all are that are to be weighed."""
    base_scores: Floats | None = None
    """Partial credit of the base, NaN where it is not known; None where nothing is known."""
    candidate_scores: Floats | None = None

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.base.size

    @property
    def looks(self) -> int:
        """Number of looks so far, or planned; 1 without a plan."""
        return 1 if self.planned is None or self.rounds is None else len(self.planned)

    def until(self, look: int) -> PairTable:
        """The pairs of the first looks, of the same plan."""
        if self.rounds is None:
            return self
        kept = self.rounds < look
        return replace(
            self,
            task=self.task[kept],
            base=self.base[kept],
            candidate=self.candidate[kept],
            rounds=self.rounds[kept],
            base_scores=None if self.base_scores is None else self.base_scores[kept],
            candidate_scores=None if self.candidate_scores is None else self.candidate_scores[kept],
        )

    def alone(self, *, failures: bool = False) -> PairTable:
        """The candidate beside a base that solves everything, so that the difference is its rate minus 1.

        Args:
            failures: Count the candidate's failures as its successes, and the reverse.
        """
        candidate = self.candidate
        if failures:
            swapped = np.where(candidate == SUCCESS, TIMEOUT, SUCCESS).astype(candidate.dtype)
            candidate = np.where(candidate == ERROR, candidate, swapped)
        return replace(self, base=np.full_like(self.base, SUCCESS), candidate=candidate)

    def score_differences(self, view: View) -> tuple[Floats, NDArray[np.bool_]] | None:
        """Candidate minus base in partial credit, and of which pairs; None where a pair that was scored has none.

        Args:
            view: What is made of infrastructure errors.
        """
        if self.base_scores is None or self.candidate_scores is None:
            return None
        old, new = self.base_scores.copy(), self.candidate_scores.copy()
        if view != "scored":
            old[self.base == ERROR] = 1.0 if view == "worst" else 0.0
            new[self.candidate == ERROR] = 0.0 if view == "worst" else 1.0
        kept = (self.base != ERROR) & (self.candidate != ERROR) if view == "scored" else np.ones(self.n, dtype=bool)
        found = (new - old)[kept]
        return None if np.isnan(found).any() else (found, kept)

    def overall(self, *, anytime: bool = False, look: int | None = None) -> GroupEvidence:
        """Evidence over all tasks."""
        return self._group("all tasks", np.ones(self.n, dtype=bool), None, anytime, look)

    def by_task(self, *, anytime: bool = False, look: int | None = None) -> list[GroupEvidence]:
        """Evidence task by task."""
        return [self._group(name, self.task == number, number, anytime, look) for number, name in enumerate(self.names)]

    def _group(
        self, name: str, rows: NDArray[np.bool_], task: int | None, anytime: bool, look: int | None
    ) -> GroupEvidence:
        old, new = self.base[rows], self.candidate[rows]
        scored = (old != ERROR) & (new != ERROR)
        everything = np.ones(old.size, dtype=bool)
        views = {
            "scored": (scored, old == SUCCESS, new == SUCCESS),
            "worst": (everything, old != TIMEOUT, new == SUCCESS),
            "best": (everything, old == SUCCESS, new != TIMEOUT),
        }
        found = {
            view: self._weigh(rows, kept, won, solved, task, anytime, look)
            for view, (kept, won, solved) in views.items()
        }
        return GroupEvidence(name, **found)

    def _weigh(
        self,
        rows: NDArray[np.bool_],
        kept: NDArray[np.bool_],
        won: NDArray[np.bool_],
        solved: NDArray[np.bool_],
        task: int | None,
        anytime: bool,
        look: int | None,
    ) -> Evidence:
        won, solved = won[kept], solved[kept]
        counts = PairCounts.of(won, solved)
        if anytime:
            return AnytimeEvidence(counts)
        if self.rounds is not None and self.planned is not None and look is not None:
            cells = _cells(self.rounds[rows][kept], won, solved, len(self.planned))[:look]
            per_look = self.planned.sum(axis=1) if task is None else self.planned[:, task]
            sizes = tuple(int(size) for size in np.cumsum(per_look))
            if sizes[-1]:
                return LookEvidence(tuple(PairCounts(*map(int, row)) for row in np.cumsum(cells, axis=0)), sizes)
        clusters = None
        if self.cluster is not None and won.size:
            clusters = Clusters.of(self.cluster[rows][kept], ~won & solved, won & ~solved)
        return FixedEvidence(counts, clusters)


def cluster_codes(details: pa.Table, task: Ints, by: Literal["init_state", "task"]) -> Ints:
    """Cluster of each episode, numbered.

    Args:
        details: Its `init_state_id`, one row an episode.
        task: Its task, numbered.
        by: What is sampled.
    """
    if by == "task":
        return task
    states = np.unique(details["init_state_id"].fill_null(-1).to_numpy(), return_inverse=True)[1].ravel()
    return np.asarray(task * (states.max(initial=0) + 1) + states, dtype=np.int64)


def _cells(rounds: Ints, won: NDArray[np.bool_], solved: NDArray[np.bool_], looks: int) -> Ints:
    """Both, lost, gained, neither of each look, shape (looks, 4)."""
    kind = np.where(won, np.where(solved, 0, 1), np.where(solved, 2, 3))
    return np.bincount(rounds * 4 + kind, minlength=4 * looks).reshape(looks, 4)
