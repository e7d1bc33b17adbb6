"""Batching of decisions over workers: asyncio and one compute thread, no Ray."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.policies.base import Policy, PreparingPolicy
from harness.rollout.decide import Decided, first_of, raised
from harness.rollout.faults import PolicyActionError
from harness.schedule.batching import Waiting, bucket_of, next_batch, patience
from harness.spec.observation import Observation
from harness.time_source import TimeSource

Answer = TypeVar("Answer")

KEPT_GAPS = 64
"""Gaps between arrivals that are remembered."""


@dataclass(slots=True)
class _Request:
    observation: Observation
    noise: NDArray[np.float32] | None
    since: float
    answer: asyncio.Future[Decided]
    prepared: asyncio.Future[Observation] | None = None
    """The observation as `PreparingPolicy.prepare` leaves it; None: `act` does it all."""


@dataclass(slots=True)
class _Batch:
    nfe: int | None
    requests: list[_Request] = field(default_factory=list)


class Batcher:
    """Collects decisions, groups them by NFE, and runs them in batches, the oldest request's group first.

    When a batch starts is for `harness.schedule.batching` to say. While one batch computes, the next one collects, and
    a policy that can (`PreparingPolicy`) already works at what comes in, in a thread of its own.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        max_batch: int,
        max_wait_s: float,
        clock: TimeSource,
        n_clients: int | None = None,
        hardware: str | None = None,
        sizes: Sequence[int] = (),
        adaptive: bool = False,
    ) -> None:
        """Serve `policy`.

        Args:
            policy: What decides; its `act` is only ever called from one thread.
            max_batch: Largest batch.
            max_wait_s: Longest time that a request waits for others, seconds.
            clock: Time.
            n_clients: Workers that ask, if known.
            hardware: Where this runs, for the ledger.
            sizes: Batch sizes that `policy` has recorded, ascending; a batch is filled up to one of them. Empty: any.
            adaptive: Whether requests wait only as long as others lately came within, `max_wait_s` at most.
        """
        self._policy, self._clock, self._hardware = policy, clock, hardware
        self._max_batch, self._max_wait_s, self._n_clients = max_batch, max_wait_s, n_clients
        self._sizes, self._adaptive = tuple(sizes), adaptive
        self._gaps: deque[float] = deque(maxlen=KEPT_GAPS)
        self._last_arrival: float | None = None
        self._groups: dict[int | None, deque[_Request]] = {}
        self._arrived = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._serving: asyncio.Task[None] | None = None
        self._computing_since: float | None = None
        self._computed_s = 0.0

    async def submit(self, observation: Observation, noise: NDArray[np.float32] | None, nfe: int | None) -> Decided:
        """Decide for one observation, in a batch with others.

        Raises:
            PolicyRaised: The policy raised for this observation (batch mates are not affected).
        """
        if self._serving is None or self._serving.done():
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        answer: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
        request = _Request(observation, noise, self._clock.seconds(), answer)
        if self._last_arrival is not None:
            self._gaps.append(request.since - self._last_arrival)
        self._last_arrival = request.since
        if self._computing_since is not None and isinstance(self._policy, PreparingPolicy):
            loop = asyncio.get_running_loop()
            request.prepared = loop.run_in_executor(self._ahead, self._policy.prepare, observation)
        self._groups.setdefault(nfe, deque()).append(request)
        self._arrived.set()
        return await answer

    async def alone(self, work: Callable[[], Answer]) -> Answer:
        """Run something else that uses the policy, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def attach(self, n_clients: int, hardware: str | None) -> None:
        """Say how many workers ask, and what `hardware` to record."""
        self._n_clients, self._hardware = n_clients, hardware

    def close(self) -> None:
        """Compute nothing more once the running batch is done; requests that still wait are never answered."""
        if self._serving is not None:
            self._serving.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._ahead.shutdown(wait=False, cancel_futures=True)

    def stalled_s(self) -> float:
        """How long the running batch has been computing, seconds; 0 when none is."""
        return 0.0 if self._computing_since is None else self._clock.seconds() - self._computing_since

    def busy_s(self) -> float:
        """How long batches have computed since the first, the running one included, seconds."""
        return self._computed_s + self.stalled_s()

    async def _serve(self) -> None:
        while True:
            nfe = await self._ripe()
            group = self._groups[nfe]
            batch = _Batch(nfe, [group.popleft() for _ in range(min(len(group), self._max_batch))])
            if not group:
                del self._groups[nfe]
            self._computing_since = self._clock.seconds()
            for request in batch.requests:
                if request.prepared is not None:
                    # What cannot be prepared is left to `act`, whose errors have a place.
                    with contextlib.suppress(Exception):
                        request.observation = await request.prepared
            answers = await asyncio.get_running_loop().run_in_executor(self._pool, self._compute, batch)
            self._computed_s += self.stalled_s()
            self._computing_since = None
            for request, answer in zip(batch.requests, answers, strict=True):
                if request.answer.done():
                    continue
                if isinstance(answer, BaseException):
                    request.answer.set_exception(answer)
                else:
                    request.answer.set_result(answer)

    async def _ripe(self) -> int | None:
        """Wait until a batch may start, and say which group it is."""
        while True:
            self._arrived.clear()
            wait_s: float | None = None
            if self._groups:
                nfe, wait_s = next_batch(
                    {key: Waiting(group[0].since, len(group)) for key, group in self._groups.items()},
                    self._clock.seconds(),
                    max_batch=self._max_batch,
                    max_wait_s=patience(self._gaps, self._max_wait_s) if self._adaptive else self._max_wait_s,
                    n_clients=self._n_clients,
                )
                if wait_s == 0:
                    return nfe
            try:
                await asyncio.wait_for(self._arrived.wait(), wait_s)
            except TimeoutError:
                continue

    def _compute(self, batch: _Batch) -> Sequence[Decided | Exception]:
        """Run a batch in the compute thread; if it raises, each of its requests alone."""
        try:
            return self._act(batch.requests, batch.nfe)
        except (Exception, SystemExit) as error:
            if len(batch.requests) == 1:
                return [_as_fault(self._policy.info.policy_id, batch.requests[0].observation.decision, error)]
        answers: list[Decided | Exception] = []
        for request in batch.requests:
            answers += self._compute(_Batch(batch.nfe, [request]))
        return answers

    def _act(self, requests: Sequence[_Request], nfe: int | None) -> list[Decided]:
        began = self._clock.seconds()
        # Company for the last one, whose answer nobody reads, where a batch of another size would be recorded first.
        filled = [*requests, *[requests[-1]] * (bucket_of(len(requests), self._sizes) - len(requests))]
        noises = [request.noise for request in filled if request.noise is not None]
        noise = np.stack(noises) if noises else None
        chunks = self._policy.act([request.observation for request in filled], noise, nfe=nfe)
        actions = np.asarray(first_of(chunks, len(filled)))
        infer_ms = (self._clock.seconds() - began) * 1e3
        return [
            Decided(actions[i], (began - request.since) * 1e3, infer_ms, len(requests), self._hardware)
            for i, request in enumerate(requests)
        ]


def _as_fault(policy_id: str, decision: int, error: BaseException) -> Exception:
    return error if isinstance(error, PolicyActionError) else raised(policy_id, decision, error)
