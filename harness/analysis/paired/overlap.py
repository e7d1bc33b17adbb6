"""Whether two policies fail in the same episodes more often than chance would have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

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
    law: NDArray[Any] = np.ones(1)
    for n, a, b in zip(sizes, first, second, strict=True):
        if a and b:
            law = np.convolve(law, _in_common(int(n), int(a), int(b)))
    both = int((missed & also).sum())
    n, a, b = missed.size, int(missed.sum()), int(also.sum())
    return FailureOverlap(
        base_failures=a,
        candidate_failures=b,
        both=both,
        n=n,
        expected=a * b / n,
        p=min(1.0, float(_in_common(n, a, b)[both:].sum())),
        expected_in_tasks=float((first * second / np.maximum(sizes, 1)).sum()),
        p_in_tasks=min(1.0, float(law[both:].sum())),
    )


def _in_common(n: int, a: int, b: int) -> NDArray[np.float64]:
    """Probabilities of 0 … min(a, b) in common of a and of b drawn of n: that of scipy takes seconds for 10⁶."""
    least = max(0, a + b - n)
    k = np.arange(least, min(a, b) + 1)
    law: NDArray[np.float64] = np.exp(_log_choose(a, k) + _log_choose(n - a, b - k) - _log_choose(n, b))
    return np.concatenate([np.zeros(least), law])


def _log_choose(n: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    found: NDArray[np.float64] = -special.betaln(np.subtract(n, k) + 1, np.add(k, 1)) - np.log(np.add(n, 1))
    return found
