"""How far a variant's answers are from its reference's: on the same observations, from the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from harness.policies.base import Policy
from harness.rollout.actions import check_answer
from harness.schedule.keys import decision_noise
from harness.spec.observation import Observation

DECISIONS = 4
"""Decisions that are compared. All start from the same noise, so that what tells them apart is the observation."""

NOISE_KEY = "0" * 64

Answers = NDArray[np.float32]
"""Action chunks of `DECISIONS` decisions, shape (decisions, batch, T, 7)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Distance of two sets of answers."""

    decisions: int
    cosine: float
    """Least cosine similarity of two whole answers; NaN where one is zero or not finite."""
    max_abs: float
    """Largest difference of one number, in the action's units."""
    rms: float
    """Root mean square of the differences."""
    observation_rms: float
    """Root mean square of the differences between the reference's own answers to different observations."""


def answer(policy: Policy, observations: Sequence[Observation], *, nfe: int | None, batch_size: int) -> Answers:
    """Ask a policy for the answers that are compared.

    Raises:
        Exception: Whatever the policy raises.
    """
    shape = policy.info.noise_shape
    noise = None if shape is None else decision_noise(NOISE_KEY, 0, (batch_size, *shape))
    chunks = []
    for decision in range(DECISIONS):
        first = decision * batch_size
        batch = [observations[(first + n) % len(observations)] for n in range(batch_size)]
        # A copy: what a recorded graph answers is overwritten by its next replay.
        chunks.append(np.array(check_answer(policy.info, policy.act(batch, noise, nfe=nfe), batch_size)))
    return np.stack(chunks)


def compare(reference: Answers, candidate: Answers) -> Difference:
    """Compare answers to the same questions.

    Args:
        reference: Answers of the reference, shape (decisions, batch, T, 7).
        candidate: Answers of the variant, of the same shape.
    """
    left, right = reference.astype(np.float64), candidate.astype(np.float64)
    decisions = len(left)
    between = [left[n] - left[m] for n, m in combinations(range(decisions), 2)]
    return Difference(
        decisions=decisions,
        cosine=min(_cosine(left[n], right[n]) for n in range(decisions)),
        max_abs=float(np.abs(right - left).max()),
        rms=_rms(right - left),
        observation_rms=_rms(np.stack(between)) if between else float("nan"),
    )


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(np.sum(left * right)) / norms if norms > 0 and np.isfinite(norms) else float("nan")
