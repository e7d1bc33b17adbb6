"""Many checkpoints at once: every pair tested, and letters that say which cannot be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from harness.analysis.intervals import Interval, rate_interval
from harness.analysis.paired.compare import SuccessComparison, compare_success, side_notices
from harness.analysis.paired.pairing import ERROR, SUCCESS, Side, require_same_clock, require_same_protocol
from harness.analysis.paired.statistics import holm
from harness.notebook import ShownInNotebooks


@dataclass(frozen=True)
class MatrixEntry:
    """One checkpoint of a matrix."""

    side: Side
    successes: int
    n: int
    """Scored episodes, errors left out."""
    errors: int
    interval: Interval
    """Clopper-Pearson, 95 %."""
    letters: str
    """Checkpoints that share a letter cannot be told apart."""


@dataclass(frozen=True)
class Matrix(ShownInNotebooks):
    """Every pair of several checkpoints."""

    entries: tuple[MatrixEntry, ...]
    """Best first."""
    comparisons: tuple[tuple[SuccessComparison, float], ...]
    """Each pair of entries with its p value after Holm's correction over all pairs."""
    alpha: float
    notices: tuple[str, ...] = ()
    """What to know before the numbers, in sentences."""

    @property
    def best(self) -> tuple[MatrixEntry, ...]:
        """The first checkpoint and all that cannot be told apart from it: one only where it is separated from all."""
        if not self.entries:
            return ()
        return tuple(entry for entry in self.entries if set(entry.letters) & set(self.entries[0].letters))

    @property
    def no_pairs(self) -> str | None:
        """Which checkpoints share no episode, so that nothing is known of their difference; None when all pairs do."""
        apart = [f"{_name(one.base)} and {_name(one.candidate)}" for one, _ in self.comparisons if not one.n]
        if not apart:
            return None
        more = f", and {len(apart) - 5} more" if len(apart) > 5 else ""
        return (
            f"no pairs: {'; '.join(apart[:5])}{more} have no episode in common. "
            "Run or import the same tasks, init states, trials and seeds on both sides."
        )


def compare_many(sides: Sequence[Side], alpha: float = 0.05, *, allow_clock: bool = False) -> Matrix:
    """Compare every pair of checkpoints on the episodes that the two share.

    Args:
        sides: Checkpoints, of any ledgers with the same protocol.
        alpha: Family-wise error rate of "these two differ".
        allow_clock: Whether rows of two clocks may be paired.

    Raises:
        UsageError: Two protocols or clocks differ.
    """
    for first, second in combinations(sides, 2):
        require_same_protocol(first, second)
        require_same_clock(first, second, allow_clock=allow_clock)
    ranked = sorted(sides, key=lambda side: -_rate(side))
    pairs = list(combinations(range(len(ranked)), 2))
    compared = [compare_success(ranked[i], ranked[j]) for i, j in pairs]
    adjusted = holm([result.overall.p for result in compared])
    different = {pair for pair, p in zip(pairs, adjusted, strict=True) if p <= alpha}
    letters = compact_letters(len(ranked), different)
    return Matrix(
        entries=tuple(_entry(side, text) for side, text in zip(ranked, letters, strict=True)),
        comparisons=tuple((result, float(p)) for result, p in zip(compared, adjusted, strict=True)),
        alpha=alpha,
        notices=tuple(side_notices(ranked)),
    )


def _name(side: Side) -> str:
    return f"{side.label} ({side.path})"


def compact_letters(n: int, different: set[tuple[int, int]]) -> list[str]:
    """Compact letter display: two of n items share a letter exactly when they are not in `different`.

    Args:
        n: Number of items, best first; the first letter goes to the best.
        different: Pairs (i, j), i < j, that are told apart.

    Returns:
        Letters of each item.

    Source: Piepho, Journal of Computational and Graphical Statistics 13 (2004): insert and absorb.
    """
    columns: list[frozenset[int]] = [frozenset(range(n))]
    for i, j in sorted(different):
        split = [column for column in columns if not {i, j} <= column]
        for column in columns:
            if {i, j} <= column:
                split += [column - {i}, column - {j}]
        columns = [column for column in set(split) if not any(column < other for other in split)]
    ordered = sorted(columns, key=sorted)
    return ["".join(_letter(place) for place, column in enumerate(ordered) if item in column) for item in range(n)]


def _letter(place: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return alphabet[place % 26] * (place // 26 + 1)


def _rate(side: Side) -> float:
    scored = int((side.outcomes != ERROR).sum())
    return float((side.outcomes == SUCCESS).sum()) / scored if scored else 0.0


def _entry(side: Side, letters: str) -> MatrixEntry:
    successes, errors = int((side.outcomes == SUCCESS).sum()), int((side.outcomes == ERROR).sum())
    n = side.n - errors
    return MatrixEntry(side, successes, n, errors, rate_interval(successes, n), letters)
