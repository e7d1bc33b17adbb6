"""A policy behind a connection that may break: asked again where that is safe, given up where it is not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyServerDied, PolicyServerLost
from harness.policies.base import SpanTimer, no_span
from harness.policies.servers.address import Address, LinkLost
from harness.policies.servers.convention import one_chunk
from harness.policies.servers.options import ServerOptions
from harness.spec.observation import ActionChunks, Observation, PolicyInfo, RemoteTiming

GIVE_UPS = 3
"""How often in a row a server may stay away for `reconnect_s` before the run is given up."""


class Hanging(Protocol):
    """A connection that can be hung up."""

    def close(self) -> None:
        """Hang up."""
        ...


class ReconnectingPolicy[L: Hanging](ABC):
    """Reconnects by itself; a server that stays away is the infrastructure's fault."""

    info: PolicyInfo
    span: SpanTimer
    """Timer of the components; the probe replaces it."""
    warnings: tuple[str, ...]
    """What a user should know about this server."""
    provenance: Mapping[str, str]
    """Where the policy runs, and what the server says of its origin."""

    def __init__(
        self,
        link: L,
        address: Address,
        info: PolicyInfo,
        options: ServerOptions,
        *,
        stateful: bool,
        seconds: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Take over an open connection.

        Args:
            link: The connection.
            address: Where it leads.
            info: What the server's policy is.
            options: How to treat the server.
            stateful: Whether the server keeps state per episode, so that an episode ends with its connection.
            seconds: Stopwatch.
            sleep: Waits.
        """
        self.info, self.span = info, no_span
        self._link: L | None = link
        self._address, self._options, self._stateful = address, options, stateful
        self._seconds, self._sleep = seconds, sleep
        self._given_up = 0

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Ask for each observation; see `harness.policies.base.Policy.act`.

        Raises:
            PolicyServerDied: The server is gone and did not come back in time, or came back without the episode.
            PolicyServerLost: It stayed away again and again, or came back with another policy.
            PolicyError: It complains, or its answer is of another shape.
        """
        return one_chunk(
            [self._decide(seen, None if noise is None else noise[i], nfe) for i, seen in enumerate(observations)]
        )

    def close(self) -> None:
        """Hang up."""
        self._hang_up()

    @abstractmethod
    def _ask(
        self, link: L, seen: Observation, noise: NDArray[np.float32] | None, nfe: int | None
    ) -> tuple[NDArray[np.float32], RemoteTiming]:
        """One question and its answer, shape (T, 7)."""

    @abstractmethod
    def _open(self, limit_s: float) -> L:
        """Connect again within `limit_s`, and make sure that the same policy is there; raises `LinkLost`."""

    def _decide(
        self, seen: Observation, noise: NDArray[np.float32] | None, nfe: int | None
    ) -> tuple[NDArray[np.float32], RemoteTiming]:
        deadline: float | None = None
        while True:
            link = self._link or self._reconnect(deadline, seen.decision)
            try:
                answer = self._ask(link, seen, noise, nfe)
            except LinkLost as error:
                self._hang_up()
                deadline = self._seconds() + self._options.reconnect_s if deadline is None else deadline
                self._refuse_to_resume(seen, deadline, error)
                continue
            except BaseException:
                # Above all the alarm of a time limit: an answer that comes later must not be taken for the next one's.
                self._hang_up()
                raise
            self._given_up = 0
            return answer

    def _reconnect(self, deadline: float | None, decision: int) -> L:
        """Connect again, until `deadline` or for as long as a decision may wait."""
        limit_s = self._options.reconnect_s if deadline is None else max(deadline - self._seconds(), 0.0)
        try:
            link = self._open(limit_s)
        except LinkLost as error:
            self._given_up += 1
            if self._given_up >= GIVE_UPS:
                raise PolicyServerLost(
                    f"The policy server at {self._address} stayed away for {self._options.reconnect_s:g} s, "
                    f"{GIVE_UPS} times in a row ({error}). Start it again, then continue with --resume."
                ) from error
            raise PolicyServerDied(
                f"The policy server at {self._address} was lost at decision {decision} and did not come back within "
                f"{self._options.reconnect_s:g} s ({error})."
            ) from error
        self._link = link
        return link

    def _refuse_to_resume(self, seen: Observation, deadline: float, error: LinkLost) -> None:
        """Give an episode up whose state was lost with the connection; ask again for any other."""
        if self._stateful and seen.decision > 0:
            self._reconnect(deadline, seen.decision)
            raise PolicyServerDied(
                f"The policy server at {self._address} was lost at decision {seen.decision} ({error}); it keeps state "
                "per episode, so the episode has to start again."
            ) from error
        if self._seconds() >= deadline:
            raise PolicyServerDied(
                f"The policy server at {self._address} was lost at decision {seen.decision} again and again for "
                f"{self._options.reconnect_s:g} s ({error})."
            ) from error

    def _hang_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
