"""A policy behind a websocket: the same decisions, batched, timed apart, for whoever has the token."""

from __future__ import annotations

import threading
import time
import tracemalloc
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from served_policies import Looks, RaisesForTaskOne, Served, Warns
from websockets.sync.client import connect as open_socket

from harness.errors import PolicyError, PolicyServerDied, UsageError
from harness.latency import Budget, probe, synthetic_observations
from harness.policies.base import no_span
from harness.policies.controls import RandomPolicy
from harness.policies.openpi.client import OpenPiPolicy, connect
from harness.policies.openpi.messages import encode_request
from harness.policies.openpi.options import OpenpiOptions
from harness.policies.openpi.wire import pack, unpack
from harness.policies.registry import make_policy
from harness.policies.servers.address import Address
from harness.schedule.keys import decision_noise
from harness.serve.exposure import require_token
from harness.serve.sizing import BatchPlan
from harness.spec import parse_policy
from harness.spec.observation import ANY_NFE, CAMERAS, ActionChunks, Observation, PolicyInfo
from harness.time_source import WallTime

TOKEN = "right"  # noqa: S105 - of a server that lives for a second
QUICK = OpenpiOptions(connect_s=0.3, reconnect_s=1.0, answer_s=10.0)


def policy_at(address: Address, token: str | None = None, options: OpenpiOptions = QUICK) -> OpenPiPolicy:
    return connect(address, options, label="remote", token=token)


def seen(k: int = 0, task: int = 0, **more) -> Observation:
    return Observation(f"count to the target of task {task}", np.full(8, k, np.float32), decision=k, **more)


def noise_of(k: int) -> np.ndarray:
    return decision_noise("ab" * 32, k, (1, 7))


def test_what_a_policy_says_of_itself_arrives_and_it_runs_where_the_episode_runs(serve):
    with serve(Warns()) as serving:
        policy = policy_at(serving.address)
    info, own = policy.info, Served.info
    assert (info.policy_id, info.placement, info.max_batch) == ("remote", "worker", 1)
    for name in (
        "chunk_length",
        "replan_interval",
        "nfe_options",
        "default_nfe",
        "noise_shape",
        "checkpoint",
        "cameras",
    ):
        assert getattr(info, name) == getattr(own, name), name
    assert policy.warnings == ("The weights are random.",)
    assert policy.provenance["revision"] == "abc"
    assert policy.provenance["served_policy"] == "served"
    assert policy.provenance["address"] == str(serving.address)


def test_keyed_noise_and_nfe_decide_as_they_do_in_one_process(serve):
    policy = Served()
    with serve(policy) as serving:
        remote = policy_at(serving.address)
        for k, nfe in ((0, 1), (1, 4), (2, None)):
            there = remote.act([seen(k)], noise_of(k)[np.newaxis], nfe=nfe)
            here = policy.act([seen(k)], noise_of(k)[np.newaxis], nfe=nfe)
            np.testing.assert_array_equal(there.actions, here.actions)


def test_everything_that_a_policy_may_see_arrives_to_the_bit(serve):
    frames = {
        camera: np.random.default_rng(n).integers(0, 256, (6, 5, 3), np.uint8) for n, camera in enumerate(CAMERAS)
    }
    poses = {"bowl": np.linspace(0, 1, 7)}
    sent = seen(3, images=frames, privileged=poses, episode_key="ef" * 32, history=(seen(2, images=frames),))
    policy = Looks()
    with serve(policy) as serving:
        policy_at(serving.address).act([sent], None)
    (got,) = policy.seen
    assert (got.instruction, got.episode_key, got.decision) == (sent.instruction, "ef" * 32, 3)
    np.testing.assert_array_equal(got.state, sent.state)
    np.testing.assert_array_equal(got.privileged["bowl"], poses["bowl"])
    for camera in CAMERAS:
        np.testing.assert_array_equal(got.images[camera], frames[camera])
    assert [moment.state[0] for moment in got.history] == [2]


def test_queue_inference_and_transport_are_told_apart(serve):
    with serve(Served(), plan=BatchPlan(8, 0.0)) as serving:
        remote = policy_at(serving.address)
        timing = [remote.act([seen(k)], noise_of(k)[np.newaxis]).remote for k in range(5)]
    assert all(each.infer_ms >= 2 for each in timing)
    assert all(each.queue_ms >= 0 and each.transport_ms > 0 for each in timing)
    assert {(each.batch_size, each.hardware) for each in timing} == {(1, "a robot's box")}


def test_concurrent_clients_share_batches_and_get_their_own_answers(serve):
    barrier = threading.Barrier(4)

    def episode(n: int):
        remote = policy_at(serving.address)
        barrier.wait()
        return [(k, remote.act([seen(k)], noise_of(100 * n + k)[np.newaxis], nfe=4)) for k in range(8)]

    with serve(Served(), plan=BatchPlan(8, 0.05)) as serving, ThreadPoolExecutor(4) as pool:
        episodes = list(pool.map(episode, range(4)))
    for n, decisions in enumerate(episodes):
        for k, chunks in decisions:
            np.testing.assert_array_equal(chunks.actions[0], np.clip(noise_of(100 * n + k) * 4, -1, 1))
    assert max(chunks.remote.batch_size for decisions in episodes for _, chunks in decisions) > 1
    assert serving.service.decisions == 32


def test_an_observation_that_makes_the_policy_raise_is_answered_with_the_reason_and_serving_goes_on(serve):
    with serve(RaisesForTaskOne()) as serving:
        remote = policy_at(serving.address)
        with pytest.raises(PolicyError, match="ValueError: no such bowl") as caught:
            remote.act([seen(task=1)], noise_of(0)[np.newaxis])
        assert not isinstance(caught.value, PolicyServerDied)
        assert remote.act([seen()], noise_of(0)[np.newaxis]).actions.shape == (1, 1, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observation/state": np.zeros(7)}, r"shape \(7,\) .* not LIBERO's \(8,\) numbers"),
        ({"observation/image": np.zeros((3, 8, 8), np.uint8)}, r"'observation/image' has shape \(3, 8, 8\)"),
        ({"observation/image": np.zeros((8, 8, 3))}, "dtype float64; send"),
        ({"harness": {"protocol": 9}}, "The client speaks version 9 of the harness's protocol, this end version 1"),
        ({"harness": {"protocol": 1}}, "'harness' cannot be read"),
        ({"harness": 3}, "version None"),
    ],
)
def test_a_question_that_cannot_be_read_is_answered_with_the_reason(serve, change, message):
    frame = np.zeros((8, 8, 3), np.uint8)
    question = encode_request(seen(images=dict.fromkeys(CAMERAS, frame)), None, None, number=1, extended=False)
    with serve(Looks()) as serving, open_socket(f"ws://{serving.address.netloc}", proxy=None) as connection:
        connection.recv()
        for sent in (pack(question | change), b"\xc1", "text", pack({"prompt": "x"})):
            connection.send(sent)
            assert isinstance(connection.recv(), str)
        connection.send(pack(question | change))
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(connection.recv())
        connection.send(pack(question))
        assert unpack(connection.recv(), sender="test")["actions"].shape == (2, 7)


def test_noise_of_another_shape_is_refused(serve):
    with (
        serve(Served()) as serving,
        pytest.raises(PolicyError, match=r"noise has shape \(2, 7\); served takes \(1, 7\)"),
    ):
        policy_at(serving.address).act([seen()], np.zeros((1, 2, 7), np.float32))


def test_a_policy_that_breaks_its_word_is_the_policys_fault(serve):
    class Nan(Served):
        def act(self, observations, noise, *, nfe=None):
            return ActionChunks(np.full((len(observations), 1, 7), np.nan, np.float32))

    with serve(Nan()) as serving, pytest.raises(PolicyError, match="values that are no actions"):
        policy_at(serving.address).act([seen()], noise_of(0)[np.newaxis])


def test_a_client_that_knows_only_openpi_gets_noise_that_depends_on_what_it_shows(serve):
    """The same question, the same answer: on any connection, in any order."""
    answers = []
    questions = [encode_request(seen(k), None, None, number=1, extended=False) for k in (0, 1, 0)]
    with serve(RandomPolicy()) as serving:
        for order in (questions, questions[::-1]):
            with open_socket(f"ws://{serving.address.netloc}", proxy=None) as connection:
                connection.recv()
                for question in order:
                    connection.send(pack(question))
                    answers.append(unpack(connection.recv(), sender="test")["actions"])
    for other in (2, 3, 5):
        np.testing.assert_array_equal(answers[0], answers[other])
    np.testing.assert_array_equal(answers[1], answers[4])
    assert not np.array_equal(answers[0], answers[1])


class Counts(Served):
    """Keeps a count per episode; it answers how often it was asked."""

    info = PolicyInfo("counts")

    def __init__(self) -> None:  # noqa: D107
        super().__init__()
        self.counts: dict[str, int] = {}

    def act(self, observations, noise, *, nfe=None):
        for each in observations:
            self.counts[each.episode_key] = self.counts.get(each.episode_key, 0) + 1
        return ActionChunks(
            np.stack([np.full((1, 7), self.counts[each.episode_key] / 10, np.float32) for each in observations])
        )

    def end_episode(self, episode_key):
        self.counts.pop(episode_key, None)


def test_state_per_episode_is_kept_and_forgotten_when_the_episode_or_the_connection_ends(serve):
    policy = Counts()
    with serve(policy) as serving:
        remote = policy_at(serving.address)
        for key in ("a", "a", "b"):
            remote.act([seen(episode_key=key)], None)
        assert policy.counts == {"a": 2, "b": 1}
        remote.end_episode("a")
        assert policy.counts == {"b": 1}
        remote.close()
        policy_at(serving.address).act([seen(episode_key="c")], None)
        assert policy.counts == {"c": 1}


def test_an_episode_whose_state_was_lost_starts_again_and_any_other_goes_on(serve):
    for policy, resumes in ((Counts(), False), (RandomPolicy(), True)):
        noise = None if policy.info.noise_shape is None else np.zeros((1, *policy.info.noise_shape), np.float32)
        with serve(policy) as serving:
            remote = policy_at(serving.address)
            remote.act([seen(0)], noise)
        with serve(policy, port=serving.address.port):
            if resumes:
                assert remote.act([seen(1)], noise).actions.shape == (1, 10, 7)
            else:
                with pytest.raises(
                    PolicyServerDied, match="keeps state per episode, so the episode has to start again"
                ):
                    remote.act([seen(1)], noise)
            assert remote.act([seen(0)], noise).actions.shape[0] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_loopback_needs_no_token(host):
    require_token(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "robot.local", ""])  # noqa: S104
def test_any_other_address_does(host):
    with pytest.raises(UsageError, match="a token is needed: set VLA_HARNESS_TOKEN"):
        require_token(host, None)
    require_token(host, "secret")


def test_only_whoever_has_the_token_is_served(serve, monkeypatch):
    with serve(Served(), token=TOKEN) as serving:
        with pytest.raises(PolicyError, match=r"asks for a token.*VLA_HARNESS_TOKEN"):
            policy_at(serving.address)
        with pytest.raises(PolicyError, match="refuses the token"):
            policy_at(serving.address, "wrong")
        assert policy_at(serving.address, TOKEN).info.chunk_length == 1
        monkeypatch.setenv("MY_TOKEN", TOKEN)
        assert make_policy(parse_policy(f"{serving.address}?token_env=MY_TOKEN")).info.chunk_length == 1
        header = {"Authorization": f"Bearer {TOKEN}"}
        with open_socket(f"ws://{serving.address.netloc}", proxy=None, additional_headers=header) as connection:
            assert "harness" in unpack(connection.recv(), sender="test")


def test_a_health_check_needs_no_token(serve):
    with serve(Served(), token=TOKEN) as serving:
        answer = urllib.request.urlopen(f"http://{serving.address.netloc}/healthz", timeout=5)
        assert (answer.status, answer.read()) == (200, b"OK\n")


def test_a_port_in_use_is_named(serve):
    with serve(Served()) as serving:
        second = serve(Served(), port=serving.address.port)
        with pytest.raises(UsageError, match=rf"Port {serving.address.port} of 127.0.0.1 is in use.*--port"):
            second.__enter__()


def test_a_server_can_stand_in_front_of_another(serve):
    with serve(Served()) as inner, serve(policy_at(inner.address)) as outer:
        remote = policy_at(outer.address)
        np.testing.assert_array_equal(
            remote.act([seen()], noise_of(0)[np.newaxis], nfe=1).actions[0], np.clip(noise_of(0), -1, 1)
        )


class Timed(Served):
    """Has components that a probe can time."""

    def __init__(self) -> None:  # noqa: D107
        super().__init__()
        self.span = no_span

    def act(self, observations, noise, *, nfe=None):
        with self.span("prefix"):
            time.sleep(0.01)
        with self.span("denoise_step"):
            time.sleep(0.005)
        return super().act(observations, noise, nfe=nfe)


def test_a_probe_sees_the_servers_components_and_the_way_there(serve):
    policy = Timed()
    with serve(policy) as serving:
        found = probe(
            policy_at(serving.address),
            observations=synthetic_observations(2),
            clock=WallTime(),
            budget=Budget(min_seconds=0.2, min_samples=5, max_seconds=5.0, warmup_seconds=0.5),
        )
    (configuration,) = found.configurations
    assert configuration.failure is None
    assert {row["component"] for row in configuration.rows} == {"e2e", "prefix", "denoise_step", "transport"}
    assert np.median(configuration.samples_ms("prefix")) >= 10
    assert np.median(configuration.samples_ms("denoise_step")) >= 5
    # Of a decision, only the 2 ms outside this policy's spans are in no component.
    assert 0.5 < configuration.components_to_e2e < 1.3
    assert policy.span is no_span


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Origin": "https://example.org"}, "Web pages are not answered"),
        ({"Host": "rebound.example.org:8000"}, "Address this server as 127.0.0.1"),
        ({"Host": "127.0.0.1.example.org:8000"}, "Address this server as 127.0.0.1"),
    ],
    ids=["a page", "a page under another name", "a name that begins as an address"],
)
def test_without_a_token_web_pages_are_turned_away_on_loopback_too(serve, headers, told):
    with serve(Served()) as serving:
        asked = urllib.request.Request(f"http://127.0.0.1:{serving.address.port}/healthz", headers=headers)
        with pytest.raises(urllib.error.HTTPError, match="403") as refused:
            urllib.request.urlopen(asked, timeout=10)  # noqa: S310 - loopback
        assert told in refused.value.read().decode()
        with urllib.request.urlopen(f"http://localhost:{serving.address.port}/healthz", timeout=10) as answer:
            assert answer.status == 200


def test_more_function_evaluations_than_others_can_wait_for_are_refused(serve):
    policy = Served()
    policy.info = replace(Served.info, nfe_options=ANY_NFE)
    with serve(policy) as serving, pytest.raises(PolicyError, match="at most 200 function evaluations"):
        policy_at(serving.address).act([seen()], noise_of(0)[None], nfe=100_000)


@pytest.mark.parametrize(
    "message",
    [
        {b"__ndarray__": True, b"data": b"", b"dtype": "|S0", b"shape": [2_000_000_000]},
        {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": [2_000_000_000]},
        {b"__ndarray__": True, b"data": b"12345678", b"dtype": "<f8", b"shape": [-1]},
        {"lists": [[]] * 600_000},
        {"lists": [[[[0] * 1000] * 1000]] * 2},
    ],
    ids=["nothing much", "nothing", "negative", "lists", "long lists"],
)
def test_a_small_message_that_would_fill_memory_is_refused_before_it_does(message):
    data = msgpack.packb(message)
    tracemalloc.start()
    try:
        with pytest.raises(PolicyError, match="no msgpack message"):
            unpack(data, sender="The client")
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data) + 64e6
    finally:
        tracemalloc.stop()
