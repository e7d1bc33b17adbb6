"""Delays of decisions as data, and how they are drawn: by (episode key, decision), never by when or where.

Samples of a device are replayed in blocks: successive decisions take successive samples, so that what is slow for a
while (a clock that was throttled, a neighbour) is slow for a while here. One episode takes all its samples from one
launch: processes differ in level, and a robot's policy runs in one of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UsageError
from harness.schedule.keys import noise_generator
from harness.spec.policy import PolicyAtNfe

BLOCK = 16
"""Successive decisions that take successive samples."""
_LAUNCH = 2**63
"""Counter word under which an episode's launch is drawn; blocks count from 0."""


class Delay(NamedTuple):
    """What one decision takes on the device."""

    ms: float
    """From the observation to the action in hand, milliseconds."""
    joules: float | None = None
    """The device's energy; None where nobody measured it."""


def delay_steps(ms: float, control_hz: int) -> int:
    """Control steps that a delay lasts: ceil(ms × control_hz / 1000), 0 only for exactly 0 ms.

    Args:
        ms: Milliseconds, at least 0.
        control_hz: Control rate, Hz.
    """
    if ms == 0:
        return 0
    # 0.1 ms × 3 is 0.30000000000000004: a product that is whole but for rounding is whole.
    return max(1, math.ceil(round(ms * control_hz / 1000, 9)))


@dataclass(frozen=True)
class DelaySamples:
    """Durations, in the order in which they were measured, by launch."""

    launches: tuple[NDArray[np.float64], ...]
    """Milliseconds of each launch, each of shape (n,), n at least 1."""
    joules: tuple[NDArray[np.float64], ...] | None = None
    """Energy of the same decisions, J, NaN where it is not known; None where none is."""

    def __post_init__(self) -> None:
        """Refuse what is no duration.

        Raises:
            UsageError: Empty, NaN, infinite or negative; names the first such sample.
        """
        if not self.launches or any(len(launch) == 0 for launch in self.launches):
            raise UsageError("There is no sample to draw a delay from: the source is empty.")
        for launch in self.launches:
            bad = np.flatnonzero(~np.isfinite(launch) | (launch < 0))
            if bad.size:
                raise UsageError(
                    f"Sample {bad[0]} is {launch[bad[0]]:g} ms, which is no delay: delays are finite and at least 0. "
                    "Leave out what was not measured."
                )

    @classmethod
    def constant(cls, ms: float) -> DelaySamples:
        """The same delay for every decision."""
        return cls((np.array([ms], dtype=np.float64),))

    @property
    def all_ms(self) -> NDArray[np.float64]:
        """Samples of all launches, one after the other, milliseconds."""
        return np.concatenate(self.launches)

    @property
    def sha256(self) -> str:
        """Digest of the samples, in order."""
        digest = hashlib.sha256()
        for launch in self.launches:
            digest.update(len(launch).to_bytes(8, "little") + np.ascontiguousarray(launch, dtype="<f8").tobytes())
        return digest.hexdigest()

    def draw(self, episode_key: str, decision: int, term: str = "decision") -> Delay:
        """The delay of one decision.

        Args:
            episode_key: Key of the episode, 64 hex digits.
            decision: Index of the decision in its episode, from 0.
            term: What is drawn (decision, network, sensor), so that terms do not move together.
        """
        if len(self.launches) == 1 and len(self.launches[0]) == 1:
            launch, place = 0, 0
        else:
            key = _key_of(episode_key, term)
            launch = int(noise_generator(key, _LAUNCH).integers(len(self.launches)))
            block, within = divmod(decision, BLOCK)
            n = len(self.launches[launch])
            place = (int(noise_generator(key, block).integers(n)) + within) % n
        joules = self.joules[launch][place] if self.joules is not None else math.nan
        return Delay(float(self.launches[launch][place]), float(joules) if math.isfinite(joules) else None)


@lru_cache(maxsize=64)
def _key_of(episode_key: str, term: str) -> str:
    """A Philox key of its own for each term: nothing that noise is drawn from."""
    return hashlib.sha256(f"delay {term} {episode_key}".encode()).hexdigest()


@dataclass(frozen=True)
class DelaySource:
    """A source of delays, resolved to data: what a run needs of a device."""

    name: str
    """`latency_source` in rows; sources with other data have other names."""
    by_variant: Mapping[PolicyAtNfe, DelaySamples] = field(default_factory=dict)
    """Samples of each policy at each NFE."""
    any_variant: DelaySamples | None = None
    """Samples of every other; None: a policy at an NFE that is not in `by_variant` has none."""
    network: DelaySamples | None = None
    sensor: DelaySamples | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """What a report says of it, e.g. device, band, kind, timing_of."""

    def samples_of(self, variant: PolicyAtNfe) -> DelaySamples | None:
        """Samples of a policy at an NFE."""
        return self.by_variant.get(variant, self.any_variant)

    def covers(self, policy: str) -> bool:
        """Whether the source says anything of a policy, at whatever NFE."""
        return self.any_variant is not None or any(variant.policy_id == policy for variant in self.by_variant)

    def least_ms(self, variant: PolicyAtNfe) -> float:
        """The shortest delay that a decision of a policy can have."""
        return sum(float(samples.all_ms.min()) for samples in self._terms(variant))

    def median_ms(self, variant: PolicyAtNfe) -> float:
        """The median delay, taking the terms' medians together."""
        return sum(float(np.median(samples.all_ms)) for samples in self._terms(variant))

    def draw(self, variant: PolicyAtNfe, episode_key: str, decision: int) -> Delay:
        """The delay of one decision: inference, network and age of the observation.

        Raises:
            UsageError: The source has no samples of the policy at this NFE.
        """
        samples = self.samples_of(variant)
        if samples is None:
            raise UsageError(f"The source {self.name} does not say what {variant.label} takes.")
        own = samples.draw(episode_key, decision)
        ms = own.ms
        for term, extra in (("network", self.network), ("sensor", self.sensor)):
            if extra is not None:
                ms += extra.draw(episode_key, decision, term).ms
        return Delay(ms, own.joules)

    def _terms(self, variant: PolicyAtNfe) -> Sequence[DelaySamples]:
        return [each for each in (self.samples_of(variant), self.network, self.sensor) if each is not None]
