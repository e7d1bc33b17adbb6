"""The contract between a policy and everything that drives one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.errors import PolicyError
from harness.spec.action_space import ActionSpace
from harness.spec.observation import ActionChunks, Observation, PolicyInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SpanTimer = Callable[[str], AbstractContextManager[Any]]
"""Called by a policy as `with span("prefix"): …` around each component of `act`. Names: preprocess, vision, prefix,
denoise_step (once per function evaluation), postprocess. The default does nothing; the probe installs one that
synchronises the device and records the time."""


def no_span(name: str) -> AbstractContextManager[None]:
    """The span timer of a policy that nobody probes."""
    del name
    return nullcontext()


def require_noise(info: PolicyInfo, noise: NDArray[np.float32] | None, batch: int) -> None:
    """Refuse noise that is not what a policy takes.

    Args:
        info: What the policy says of itself.
        noise: What it was given.
        batch: Observations of the decision.

    Raises:
        PolicyError: It is missing, of another shape, or given to a policy that takes none.
    """
    expected = None if info.noise_shape is None else (batch, *info.noise_shape)
    found = None if noise is None else noise.shape
    if found != expected:
        raise PolicyError(f"{info.policy_id} got noise of shape {found}, expected {expected}; draw it per decision.")


@runtime_checkable
class Policy(Protocol):
    """A robot policy, as the harness sees it: batched, explicit in its noise, free of global state."""

    info: PolicyInfo

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Decide for a batch of observations, each of its own episode.

        Args:
            observations: B observations; the batch may mix tasks and episodes.
            noise: Shape `(B, *info.noise_shape)`, standard normal, keyed by episode and decision; None when
                `info.noise_shape` is None. A policy never draws noise of its own.
            nfe: Number of function evaluations; None for `info.default_nfe`.

        Returns:
            Chunks of shape (B, info.chunk_length, info.action_dim).
        """
        ...


@runtime_checkable
class AnyWorldPolicy(Policy, Protocol):
    """A policy that acts in every world: it is told what an action is there, and becomes one that answers such."""

    def on(self, space: ActionSpace) -> Policy:
        """The policy for a world's actions."""
        ...


def in_world(policy: Policy, space: ActionSpace | None) -> Policy:
    """The policy as it acts on `space`; as it is where it knows one kind of action only."""
    return policy.on(space) if space is not None and isinstance(policy, AnyWorldPolicy) else policy


@runtime_checkable
class EpisodicPolicy(Policy, Protocol):
    """A policy that keeps state per episode and wants to be told when one ends."""

    def end_episode(self, episode_key: str) -> None:
        """Forget the state of an episode; unknown keys are fine."""
        ...


@runtime_checkable
class PreparingPolicy(Policy, Protocol):
    """A policy of whose work a part can be done for one observation before it is known with which it shares a batch."""

    def prepare(self, observation: Observation) -> Observation:
        """Do that part.

        Called from another thread while `act` runs, so it touches nothing that `act` changes.

        Returns:
            An observation that `act` takes in place of the one given, and answers to the bit alike.
        """
        ...


@runtime_checkable
class TimedPolicy(Policy, Protocol):
    """A policy whose components can be timed: it wraps them in `self.span(name)`."""

    span: SpanTimer
