"""Units of work: what a plan is made of."""

from __future__ import annotations

from dataclasses import dataclass

from harness.spec.policy import PolicyAtNfe
from harness.spec.timing import SYNCHRONOUS, ClockName

EpisodeIdentity = tuple[str, int | None, str, str, str | None]
"""(policy_id, nfe, episode_key, clock, latency_source): what makes an episode unique in a ledger."""


@dataclass(frozen=True, slots=True)
class EpisodeUnit:
    """One episode to run with one policy at one NFE."""

    policy: str
    """Label of the policy in the suite (unique within a run); `policy_id` in ledgers."""
    nfe: int | None
    suite: str
    """LIBERO task suite, e.g. "libero_spatial"."""
    task_id: int
    init_state_id: int
    trial: int
    episode_key: str
    protocol_sha256: str
    """Digest of the pairing manifest, whose clock is always synchronous: an episode has one key under every clock."""
    clock: ClockName = SYNCHRONOUS
    latency_source: str | None = None
    """Where the delays of its decisions come from; None under the synchronous clock."""

    @property
    def identity(self) -> EpisodeIdentity:
        """What makes a unit unique in a ledger."""
        return (self.policy, self.nfe, self.episode_key, self.clock, self.latency_source)

    @property
    def policy_at_nfe(self) -> PolicyAtNfe:
        """What a table of results counts this episode under."""
        return PolicyAtNfe(self.policy, self.nfe)

    @property
    def task(self) -> tuple[str, int]:
        """(suite, task id): what a worker has to build a simulator for."""
        return (self.suite, self.task_id)
