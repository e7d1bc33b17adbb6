"""Partial credit: a score of an episode in [0, 1], from the columns that its world filled."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.intervals import Floats
from harness.spec.stages import STAGES

SHARES: Mapping[str, float] = dict(zip(STAGES, (0.0, 0.25, 0.25, 0.5, 0.75), strict=True))
"""Stage → share of a goal that it is worth. What can only be touched is worth as much as a grasp."""


def scores(success: ArrayLike, goals: ArrayLike, held_best: ArrayLike, stages: ArrayLike) -> Floats:
    """Score of each episode: 1 when it was solved, else the goals that held, and the way to the next one.

    A failed episode scores (most goals that held at one moment + share of the furthest stage towards another) / goals:
    below 1, since not all goals held.

    Args:
        success: Whether it was solved, shape (n,).
        goals: Predicates of the task's goal, NaN or null where the world declares none.
        held_best: Most predicates that held at one moment.
        stages: Furthest stage towards a goal that did not hold then; null counts as none.

    Returns:
        Shape (n,); NaN where a failed episode's goals are not known.
    """
    solved = np.asarray(success, dtype=bool)
    known = np.asarray(goals, dtype=float)
    shares = np.array([SHARES.get(stage, 0.0) for stage in np.asarray(stages, dtype=object)], dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        partial = (np.asarray(held_best, dtype=float) + shares) / known
    found: Floats = np.where(np.isnan(known), np.nan, np.where(solved, 1.0, np.clip(partial, 0.0, 1.0)))
    return found
