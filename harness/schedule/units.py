"""Units of work: what a plan is made of."""

from __future__ import annotations

from dataclasses import dataclass

from harness.spec.policy import PolicyAtNfe

EpisodeIdentity = tuple[str, int | None, str]
"""(policy_id, nfe, episode_key): what makes an episode unique in a ledger."""


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

    @property
    def identity(self) -> EpisodeIdentity:
        """What makes a unit unique in a ledger: (policy, nfe, episode key)."""
        return (self.policy, self.nfe, self.episode_key)

    @property
    def policy_at_nfe(self) -> PolicyAtNfe:
        """What a table of results counts this episode under."""
        return PolicyAtNfe(self.policy, self.nfe)

    @property
    def task(self) -> tuple[str, int]:
        """(suite, task id): what a worker has to build a simulator for."""
        return (self.suite, self.task_id)
