"""Asking a policy for one decision. The policy may live in this process or elsewhere; an episode cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyServerDied, PolicyServerLost
from harness.policies.base import EpisodicPolicy, Policy
from harness.rollout.faults import PolicyActionError, PolicyRaised, PolicyTimeout, describe_exception
from harness.rollout.limits import Alarm, AlarmRang
from harness.spec.observation import Observation, RemoteTiming
from harness.time_source import TimeSource


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision."""

    actions: NDArray[np.float32]
    """Shape (T, D) if the policy keeps its word; unchecked."""
    queue_ms: float
    """Waiting for other decisions or for a batch to fill, milliseconds."""
    infer_ms: float
    """Inside `act`, milliseconds; the whole batch's time."""
    batch_size: int
    """Observations that shared the call."""
    hardware: str | None = None
    """Where `act` ran; None: where the episode ran."""
    transport_ms: float | None = None
    """On the way to a server and back, milliseconds; None: the policy runs in this process."""


class Decider(Protocol):
    """Takes decisions for one policy, within a time limit."""

    def decide(
        self, observation: Observation, noise: NDArray[np.float32] | None, nfe: int | None, limit_s: float
    ) -> Decided:
        """Decide.

        Args:
            observation: What the policy may see.
            noise: Shape `info.noise_shape`; None when the policy draws none.
            nfe: Number of function evaluations; None for policies without a denoising loop.
            limit_s: Seconds until `PolicyTimeout`.

        Raises:
            PolicyError: `PolicyRaised`, `PolicyTimeout`, or what the place it runs in has to say.
        """
        ...

    def end_episode(self, episode_key: str) -> None:
        """Let the policy forget an episode."""
        ...


class LocalDecider:
    """A policy in this process."""

    def __init__(self, policy: Policy, alarm: Alarm, clock: TimeSource) -> None:
        """Wrap `policy`; `alarm` enforces the limit."""
        self._policy = policy
        self._alarm = alarm
        self._clock = clock

    def decide(
        self, observation: Observation, noise: NDArray[np.float32] | None, nfe: int | None, limit_s: float
    ) -> Decided:
        """Call `act` with a batch of one; see `Decider.decide`."""
        began = self._clock.seconds()
        batch = None if noise is None else noise[np.newaxis]
        try:
            with self._alarm.limit(limit_s):
                chunks = self._policy.act([observation], batch, nfe=nfe)
        except AlarmRang:
            raise timed_out(self._policy.info.policy_id, observation.decision, limit_s) from None
        except (PolicyServerDied, PolicyServerLost):
            raise
        except (Exception, SystemExit) as error:
            raise raised(self._policy.info.policy_id, observation.decision, error) from error
        infer_ms = (self._clock.seconds() - began) * 1e3
        actions = first_of(chunks, 1)[0]
        remote: RemoteTiming | None = getattr(chunks, "remote", None)
        if remote is None:
            return Decided(actions, queue_ms=0.0, infer_ms=infer_ms, batch_size=1)
        return Decided(
            actions, remote.queue_ms, remote.infer_ms, remote.batch_size, remote.hardware, remote.transport_ms
        )

    def end_episode(self, episode_key: str) -> None:
        """Pass the word on to policies that keep state."""
        if isinstance(self._policy, EpisodicPolicy):
            self._policy.end_episode(episode_key)


def first_of(chunks: object, batch_size: int) -> NDArray[np.float32]:
    """The actions of an answer, shape (batch_size, …).

    Raises:
        PolicyActionError: The answer is no `ActionChunks`, or of another batch size.
    """
    actions = getattr(chunks, "actions", None)
    shape: tuple[int, ...] = np.shape(actions) if actions is not None else ()
    if actions is None or shape[:1] != (batch_size,):
        got = f"actions of shape {shape}" if actions is not None else f"a {type(chunks).__name__}"
        raise PolicyActionError(
            f"`act` answered {batch_size} observation(s) with {got}; return ActionChunks whose actions have shape "
            f"({batch_size}, chunk length, action dimension)."
        )
    answer: NDArray[np.float32] = actions
    return answer


def timed_out(policy_id: str, decision: int, limit_s: float) -> PolicyTimeout:
    """Build the error for a decision that took too long."""
    return PolicyTimeout(
        f"Policy {policy_id!r} did not answer decision {decision} within {limit_s:g} s; "
        "raise limits.decision_s in the suite, or find out what it waits for."
    )


def raised(policy_id: str, decision: int, error: BaseException) -> PolicyRaised:
    """Build the error for a policy that raised."""
    return PolicyRaised(f"Policy {policy_id!r} raised at decision {decision}: {describe_exception(error)}")
