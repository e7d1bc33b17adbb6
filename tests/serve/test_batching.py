"""Batching of decisions over workers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest
from served_policies import RaisesForTaskOne, Served

from harness.rollout import PolicyActionError, PolicyRaised, WallTime
from harness.schedule.keys import decision_noise
from harness.serve.batching import Batcher
from harness.spec.observation import ActionChunks, Observation


def seen(decision: int = 0, task: int = 0) -> Observation:
    return Observation(f"count to the target of task {task}", np.zeros(8, np.float32), decision=decision)


def noise_of(k: int) -> np.ndarray:
    return decision_noise("ab" * 32, k, (1, 7))


def serve(policy, requests, **options):
    """Submit all requests at once and wait for all answers."""

    async def main():
        batcher = Batcher(policy, **{"max_batch": 8, "max_wait_s": 0.2, "clock": WallTime(), **options})
        return await asyncio.gather(*(batcher.submit(*request) for request in requests), return_exceptions=True)

    return asyncio.run(main())


def test_requests_that_wait_together_share_a_batch():
    answers = serve(Served(), [(seen(), noise_of(k), 4) for k in range(5)], max_wait_s=0.05)
    assert [answer.batch_size for answer in answers] == [5] * 5
    assert len({answer.infer_ms for answer in answers}) == 1


def test_a_batch_never_exceeds_its_limit():
    answers = serve(Served(), [(seen(), noise_of(k), 4) for k in range(7)], max_batch=3)
    assert sorted(answer.batch_size for answer in answers) == [1, 3, 3, 3, 3, 3, 3]


def test_one_batch_holds_one_nfe():
    answers = serve(Served(), [(seen(), noise_of(k), nfe) for k, nfe in enumerate([1, 4, 1, 4, 1])], max_wait_s=0.05)
    assert [answer.batch_size for answer in answers] == [3, 2, 3, 2, 3]


def test_everyone_gets_the_answer_to_their_own_question_whatever_the_batch():
    requests = [(seen(), noise_of(k), 1 + 3 * (k % 2)) for k in range(16)]
    for options in ({"max_batch": 1}, {"max_batch": 5}, {"max_batch": 64}):
        for (_, noise, nfe), answer in zip(requests, serve(Served(), requests, **options), strict=True):
            np.testing.assert_array_equal(answer.actions, np.clip(noise * nfe, -1, 1))


def test_a_lone_client_does_not_wait_for_others():
    (answer,) = serve(Served(), [(seen(), noise_of(0), 4)], max_wait_s=5.0, n_clients=1)
    assert answer.queue_ms < 1000


def test_a_batch_starts_when_every_client_waits():
    began = time.perf_counter()
    answers = serve(Served(), [(seen(), noise_of(k), 4) for k in range(3)], max_wait_s=5.0, n_clients=3)
    assert time.perf_counter() - began < 2
    assert [answer.batch_size for answer in answers] == [3, 3, 3]


def test_a_lonely_request_waits_no_longer_than_it_may():
    (answer,) = serve(Served(), [(seen(), noise_of(0), 4)], max_wait_s=0.1, n_clients=10)
    assert 80 < answer.queue_ms < 2000


def test_an_observation_that_makes_the_policy_raise_harms_no_batch_mate():
    requests = [(seen(k, task=k % 2), noise_of(k), 4) for k in range(4)]
    answers = serve(RaisesForTaskOne(), requests, max_wait_s=0.05)
    assert [isinstance(answer, PolicyRaised) for answer in answers] == [False, True, False, True]
    assert "raised at decision 1: ValueError: no such bowl" in str(answers[1])


def test_an_answer_for_another_number_of_observations_is_refused():
    class Short(Served):
        def act(self, observations, noise, *, nfe=None):
            return ActionChunks(np.zeros((len(observations) + 1, 1, 7), np.float32))

    (answer,) = serve(Short(), [(seen(), noise_of(0), 4)], max_wait_s=0.01)
    assert isinstance(answer, PolicyActionError)
    assert "(2, 1, 7)" in str(answer)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_batch_that_computes_too_long_can_be_seen_from_outside(hangs):
    class Slow(Served):
        def meet(self, seen):
            time.sleep(0.4 if hangs else 0.0)

    async def main():
        batcher = Batcher(Slow(), max_batch=8, max_wait_s=0.0, clock=WallTime(), n_clients=1)
        task = asyncio.create_task(batcher.submit(seen(), noise_of(0), 4))
        await asyncio.sleep(0.2)
        stalled = batcher.stalled_s()
        await task
        return stalled, batcher.stalled_s()

    during, after = asyncio.run(main())
    assert (during > 0.05) == hangs
    assert after == 0.0


def test_a_batch_is_filled_up_to_a_recorded_size_and_nobody_notices():
    class Counts(Served):
        sizes: tuple[int, ...] = ()

        def act(self, observations, noise, *, nfe=None):
            self.sizes = (*self.sizes, len(observations))
            return super().act(observations, noise, nfe=nfe)

    policy = Counts()
    requests = [(seen(), noise_of(k), 4) for k in range(5)]
    answers = serve(policy, requests, max_wait_s=0.05, sizes=(1, 2, 4, 8))
    assert policy.sizes == (8,)
    assert [answer.batch_size for answer in answers] == [5] * 5
    for (_, noise, _), answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer.actions, np.clip(noise * 4, -1, 1))


@pytest.mark.parametrize(("adaptive", "waits"), [(True, False), (False, True)])
def test_a_request_that_would_wait_in_vain_goes_at_once(adaptive, waits):
    async def main():
        batcher = Batcher(Served(), max_batch=8, max_wait_s=0.15, clock=WallTime(), n_clients=2, adaptive=adaptive)
        for k in range(9):
            await batcher.submit(seen(), noise_of(k), 4)
            await asyncio.sleep(0.02 if waits else 0.16)
        return await batcher.submit(seen(), noise_of(9), 4)

    assert (asyncio.run(main()).queue_ms > 75) == waits


class Prepares(Served):
    """Takes half of its time before the batch is known, and notes when."""

    def __init__(self, fault=None) -> None:  # noqa: D107
        super().__init__()
        self.fault = fault
        self.computing = False
        self.while_computing: list[int] = []

    def prepare(self, observation):
        if self.computing:
            self.while_computing.append(observation.decision)
        if self.fault is not None:
            raise self.fault
        return replace(observation, instruction="prepared")

    def act(self, observations, noise, *, nfe=None):
        self.computing = True
        time.sleep(0.1)
        self.computing = False
        return super().act(observations, noise, nfe=nfe)


@pytest.mark.parametrize("fault", [None, ValueError("no such bowl")], ids=["prepared", "cannot be prepared"])
def test_what_comes_while_a_batch_computes_is_prepared_meanwhile_and_answered_alike(fault):
    policy = Prepares(fault)

    async def main():
        batcher = Batcher(policy, max_batch=8, max_wait_s=0.0, clock=WallTime(), n_clients=1)
        first = asyncio.create_task(batcher.submit(seen(0), noise_of(0), 4))
        await asyncio.sleep(0.03)
        answers = await asyncio.gather(first, *(batcher.submit(seen(k), noise_of(k), 4) for k in (1, 2)))
        batcher.close()
        return answers

    for k, answer in enumerate(asyncio.run(main())):
        np.testing.assert_array_equal(answer.actions, np.clip(noise_of(k) * 4, -1, 1))
    # The first comes when nothing computes: it is not made to pass through another thread.
    assert policy.while_computing == [1, 2]
    words = [observation.instruction for observation in policy.seen]
    assert [word == "prepared" for word in words] == [False, *[fault is None] * 2]
