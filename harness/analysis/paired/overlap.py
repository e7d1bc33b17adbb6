"""Whether two policies fail in the same episodes more often than chance would have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class FailureOverlap:
    """Episodes that both failed, against what as many failures on either side would share by chance."""

    base_failures: int
    candidate_failures: int
    both: int
    n: int
    """Pairs in which both sides have a result."""
    expected: float
    """Common failures if each side's fell on any of the episodes."""
    p: float
    """Probability of so many or more in common (hypergeometric: Fisher's exact test, one-sided)."""
    expected_in_tasks: float
    """Common failures if each side's fell on any episode of the task that they are of."""
    p_in_tasks: float
    """As `p`, given the failures of each task: what is left when hard tasks are hard for both."""


def failure_overlap(base: Truths, candidate: Truths, tasks: NDArray[np.int64], scored: Truths) -> FailureOverlap | None:
    """Hold the common failures of two sides against chance.

    Args:
        base: Whether the base solved each pair, shape (n,).
        candidate: Whether the candidate did.
        tasks: Number of the task of each pair, from 0.
        scored: Pairs in which both sides have a result; others are left out.

    Returns:
        None where a side has no failure.
    """
    missed, also, tasks = ~base[scored], ~candidate[scored], tasks[scored]
    if not missed.any() or not also.any():
        return None
    sizes = np.bincount(tasks)
    first, second = np.bincount(tasks[missed], minlength=sizes.size), np.bincount(tasks[also], minlength=sizes.size)
    # The distribution of a sum of independent hypergeometric counts, one a task.
    law = np.ones(1)
    for n, a, b in zip(sizes, first, second, strict=True):
        if a and b:
            law = np.convolve(law, stats.hypergeom.pmf(np.arange(min(a, b) + 1), n, a, b))
    both = int((missed & also).sum())
    n, a, b = missed.size, int(missed.sum()), int(also.sum())
    return FailureOverlap(
        base_failures=a,
        candidate_failures=b,
        both=both,
        n=n,
        expected=a * b / n,
        p=float(stats.hypergeom.sf(both - 1, n, a, b)),
        expected_in_tasks=float((first * second / np.maximum(sizes, 1)).sum()),
        p_in_tasks=min(1.0, float(law[both:].sum())),
    )
