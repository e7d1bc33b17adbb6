"""When two policies' answers are one policy's: what is held of a variant before its latency is believed."""

from __future__ import annotations

LEAST_COSINE = 0.999
"""A variant whose least cosine to its reference is below this is marked."""

LARGEST_SHARE = 0.1
"""So is one whose root mean square difference exceeds this share of what another observation changes."""


def is_far(cosine: float, rms: float, observation_rms: float) -> bool:
    """Whether answers differ by so much that their latency is another policy's; also when nothing finite is known."""
    alike = cosine >= LEAST_COSINE
    # Observations that change nothing leave the cosine to judge.
    near = not observation_rms > 0 or rms <= LARGEST_SHARE * observation_rms
    return not (alike and near)
