"""What a server does with a message, whatever carries it: read it, let the policy decide in a batch, answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.latency.spans import Span, SpanRecorder, synchronizer
from harness.policies.base import EpisodicPolicy, Policy, TimedPolicy
from harness.policies.openpi.messages import (
    ACTIONS_KEY,
    EXTENSION,
    TIMING_KEY,
    DecisionRequest,
    Welcome,
    decode_request,
    encode_welcome,
    ended_episode,
)
from harness.policies.origin import origin_of
from harness.rollout.actions import check_actions
from harness.rollout.decide import Decided, first_of
from harness.rollout.faults import describe_exception
from harness.serve.batching import Batcher
from harness.serve.sizing import BatchPlan
from harness.spec.observation import PolicyInfo
from harness.time_source import TimeSource

FOLDERS = re.compile(r"(?<![\w:/.…])~?/(?:[^\s:/'\"()]+/)*(?=[^\s:/'\"()])")
"""The folders before a file's name; not the start of an address (`openpi://`)."""


class Conversation:
    """One client's connection."""

    def __init__(self, name: str) -> None:
        """Name it; the name stands for the episode of clients that name none."""
        self.name = name
        self.requests = 0
        self.episodes: set[str] = set()


class PolicyService:
    """One policy for many clients. Lives in one event loop; the policy runs in the batcher's thread."""

    def __init__(
        self, policy: Policy, plan: BatchPlan, *, clock: TimeSource, hardware: str | None, pad_to_s: float = 0.0
    ) -> None:
        """Serve `policy`, batched as `plan` says.

        Args:
            policy: What decides.
            plan: How decisions share calls.
            clock: Times them.
            hardware: What answers say of this machine.
            pad_to_s: How long at least an answer takes, from its question's arrival, seconds: a known delay.
        """
        self._policy, self._hardware, self._pad_to_s = policy, hardware, pad_to_s
        self._batcher = Batcher(
            policy,
            max_batch=plan.max_batch,
            max_wait_s=plan.max_wait_s,
            clock=clock,
            hardware=hardware,
            sizes=plan.sizes,
            adaptive=plan.adaptive,
        )
        self._clock = clock
        self._open: set[Conversation] = set()
        self._count = 0
        self.decisions = 0
        """Decisions answered so far."""
        self.clients = 0
        """Connections so far."""

    @property
    def info(self) -> PolicyInfo:
        """What is served."""
        return self._policy.info

    @property
    def welcome(self) -> dict[str, Any]:
        """The first message to every client."""
        stateful = isinstance(self._policy, EpisodicPolicy)
        record = origin_of(self._policy)
        if self._pad_to_s:
            told = f"Its server is slowed: no answer leaves it before {self._pad_to_s * 1e3:g} ms."
            record["warnings"] = [*record.get("warnings", ()), told]
        return encode_welcome(Welcome(self._policy.info, stateful, record))

    def join(self) -> Conversation:
        """Begin a conversation."""
        self.clients += 1
        conversation = Conversation(f"connection-{self.clients}")
        self._open.add(conversation)
        self._batcher.attach(len(self._open), self._hardware)
        return conversation

    def leave(self, conversation: Conversation) -> None:
        """End a conversation, and with it the episodes that it left open."""
        self._open.discard(conversation)
        self._batcher.attach(max(len(self._open), 1), self._hardware)
        for episode in conversation.episodes:
            self._end(episode)

    async def answer(self, message: Mapping[str, Any], conversation: Conversation) -> dict[str, Any]:
        """Answer one message.

        Raises:
            HarnessError: The message cannot be read, or the policy did not decide; in words for the client.
        """
        began = self._clock.seconds()
        ended = ended_episode(message)
        if ended is not None:
            self.end(ended, conversation)
            return {EXTENSION: {"ended": ended}}
        request = decode_request(message, self.info, connection=conversation.name, count=conversation.requests)
        decided, spans = await self.decide(request, conversation, began)
        # Reading the message is part of the way here, as packing the answer is part of the way back.
        timing = {"infer_ms": decided.infer_ms, "queue_ms": decided.queue_ms}
        timing["total_ms"] = (self._clock.seconds() - began) * 1e3
        extra = {
            "request": request.number,
            "batch_size": decided.batch_size,
            "hardware": self._hardware,
            "spans": [[span.name, span.ms] for span in spans],
        }
        return {ACTIONS_KEY: decided.actions, TIMING_KEY: timing, EXTENSION: extra}

    async def decide(
        self, request: DecisionRequest, conversation: Conversation, began: float | None = None
    ) -> tuple[Decided, list[Span]]:
        """Let the policy decide, whatever the question came as.

        Args:
            request: The question.
            conversation: Whose it is.
            began: When it came, by the service's clock; None: now.

        Returns:
            The decision, and how long its components took, where that was asked.

        Raises:
            HarnessError: The policy did not decide.
        """
        began = self._clock.seconds() if began is None else began
        conversation.requests += 1
        conversation.episodes.add(request.observation.episode_key)
        spans: list[Span] = []
        if request.spans and isinstance(self._policy, TimedPolicy):
            decided, spans = await self._batcher.alone(partial(self._act_timed, self._policy, request, began))
        else:
            decided = await self._batcher.submit(request.observation, request.noise, request.nfe)
        check_actions(decided.actions, self.info.chunk_length, request.observation.decision)
        self.decisions += 1
        if (left := began + self._pad_to_s - self._clock.seconds()) > 0:
            await asyncio.sleep(left)
        return decided, spans

    def end(self, episode: str, conversation: Conversation) -> None:
        """Forget an episode."""
        conversation.episodes.discard(episode)
        self._end(episode)

    def _act_timed(self, policy: TimedPolicy, request: DecisionRequest, since: float) -> tuple[Decided, list[Span]]:
        """Decide alone, each component timed as a probe does it."""
        synchronize = synchronizer(policy)
        recorder = SpanRecorder(self._clock.seconds, synchronize)
        noise = None if request.noise is None else request.noise[np.newaxis]
        timer, policy.span = policy.span, recorder
        try:
            synchronize()
            began = self._clock.seconds()
            chunks = policy.act([request.observation], noise, nfe=request.nfe)
            synchronize()
        finally:
            policy.span = timer
        infer_ms = (self._clock.seconds() - began) * 1e3
        return Decided(first_of(chunks, 1)[0], (began - since) * 1e3, infer_ms, 1), recorder.drain()

    def close(self) -> None:
        """Let the compute thread end after the batch that it is at."""
        self._batcher.close()

    def _end(self, episode: str) -> None:
        if isinstance(self._policy, EpisodicPolicy):
            self._policy.end_episode(episode)


def complaint(error: BaseException) -> str:
    """What a client is told about an error: one line, without traceback and folders of this machine."""
    said = str(error) if isinstance(error, HarnessError) else describe_exception(error)
    return FOLDERS.sub("", " ".join(said.split()))
