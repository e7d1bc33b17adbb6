"""GR00T's and vla.cpp's servers, which cannot be installed here: recorded messages, over real ZeroMQ sockets.

`tests/data/servers/vlacpp_*` are what vla.cpp's own client sent (VinRobotics/vla.cpp at b18873d,
eval/client/vla_cpp_client.py, with a small tokenizer and frames of one colour) and answers written by the classes that
protoc makes of its vla.proto. `gr00t_*` were written by the rules of NVIDIA's published `MsgSerializer` (msgpack and
np.save). Neither server itself was run.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest

pytest.importorskip("zmq", reason="pyzmq is not installed (the extra `servers` brings it)")
import zmq

from harness.errors import PolicyError, PolicyServerDied, UsageError
from harness.policies.gr00t import messages as gr00t
from harness.policies.registry import POLICIES, make_policy
from harness.policies.vlacpp import messages as vlacpp
from harness.spec import parse_policy
from harness.spec.observation import CAMERAS, Observation

DATA = Path(__file__).parents[1] / "data" / "servers"
TOKEN = "a token"  # noqa: S105 - a test's
STATE = np.arange(8, dtype=np.float32) / 4


def recorded(name: str) -> bytes:
    data = (DATA / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


def seen(*frames: np.ndarray) -> Observation:
    return Observation("pick up the black bowl", STATE, dict(zip(CAMERAS, frames, strict=True)))


SMALL = seen(np.full((4, 4, 3), 1, np.uint8), np.full((4, 4, 3), 2, np.uint8))
COLOURS = seen(np.broadcast_to(np.array([64, 128, 255], np.uint8), (256, 256, 3)), np.full((256, 256, 3), 32, np.uint8))


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """A REP socket on loopback that notes its questions."""
    asked: list[bytes] = []
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    socket.setsockopt(zmq.RCVTIMEO, 50)
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            try:
                question = socket.recv()
            except zmq.Again:
                continue
            asked.append(question)
            socket.send(answer(question))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield port, asked
    finally:
        done.set()
        thread.join()
        socket.close(0)
        context.term()


def groot_server(**answers: bytes) -> Callable[[bytes], bytes]:
    """A server that answers what was recorded, by endpoint."""
    said = {"ping": "gr00t_ping.bin", "get_modality_config": "gr00t_modalities.bin", "get_action": "gr00t_action.bin"}

    def answer(question: bytes) -> bytes:
        endpoint = msgpack.unpackb(question, strict_map_key=False)["endpoint"]
        return answers.get(endpoint) or recorded(said[endpoint])

    return answer


def test_gr00t_is_asked_in_the_published_bytes():
    question = {"endpoint": "get_action", "data": {"observation": None, "options": None}}
    question["data"]["observation"] = gr00t.encode_observation(SMALL, gr00t.LANGUAGE, "nested")
    assert gr00t.pack(question) == recorded("gr00t_request.bin")


def test_gr00ts_answers_are_liberos_actions():
    with answering(groot_server()) as (port, asked):
        policy = make_policy(parse_policy(f"gr00t://127.0.0.1:{port}"))
        chunk = policy.act([SMALL], None).actions[0]
        policy.close()
    assert (policy.info.chunk_length, policy.info.replan_interval, policy.info.noise_shape) == (16, 8, None)
    np.testing.assert_allclose(chunk[:, :6], np.arange(16)[:, None] / 100 + np.arange(6), rtol=1e-6)
    # Recorded: the gripper goes from 0 (closed) to 1 (open); LIBERO's +1 closes.
    np.testing.assert_array_equal(chunk[:, 6], [1.0] * 8 + [-1.0] * 8)
    assert asked[-1] == recorded("gr00t_request.bin")
    assert any("not against a running GR00T server" in each for each in policy.warnings)
    assert "no keyed noise" in policy.warnings[0]


def test_gr00t_takes_flat_observations_a_token_and_liberos_gripper(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    flat = {f"action.{key}": np.full((1, 4, 1), 0.25, np.float32) for key in gr00t.ACTION}
    with answering(groot_server(get_action=msgpack.packb([_npy(flat), {}]))) as (port, asked):
        policy = make_policy(parse_policy(f"gr00t://127.0.0.1:{port}?layout=flat&token_env=MY_TOKEN&gripper=libero"))
        np.testing.assert_array_equal(policy.act([SMALL], None).actions, np.full((1, 4, 7), 0.25, np.float32))
        policy.close()
    question = msgpack.unpackb(asked[-1], strict_map_key=False)
    assert question["api_token"] == TOKEN
    assert set(question["data"]["observation"]) == {
        "video.image", "video.wrist_image", *(f"state.{key}" for key in gr00t.STATE), gr00t.LANGUAGE,
    }  # fmt: skip


def _npy(parts: dict[str, np.ndarray]) -> dict:
    return {key: gr00t._encode(value) for key, value in parts.items()}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"video": ["front", "wrist"]}, "video keys: it declares front, wrist, this client has image, wrist_image"),
        ({"state": ["single_arm", "gripper"]}, "state keys: it declares single_arm, gripper, this client has x, y, z"),
        (
            {"action": ["x", "y", "z", "gripper"]},
            "action keys: it declares x, y, z, gripper, this client has x, y, z, r",
        ),
    ],
)
def test_a_gr00t_of_another_embodiment_is_refused_in_one_message(changes, told):
    config = msgpack.unpackb(recorded("gr00t_modalities.bin"))
    for modality, keys in changes.items():
        config[modality]["as_json"]["modality_keys"] = keys
    server = groot_server(get_modality_config=msgpack.packb(config))
    with answering(server) as (port, asked), pytest.raises(PolicyError, match=rf"do not fit\. {told}"):
        make_policy(parse_policy(f"gr00t://127.0.0.1:{port}"))
    assert len(asked) == 2


def test_gr00ts_complaints_and_silences_are_told():
    with (
        answering(groot_server(get_action=recorded("gr00t_error.bin"))) as (port, _),
        pytest.raises(PolicyError, match="answered with an error: Video key 'image' must be in observation"),
    ):
        make_policy(parse_policy(f"gr00t://127.0.0.1:{port}"))
    with (
        answering(lambda question: b"\xc1 none") as (port, _),
        pytest.raises(PolicyError, match="does not speak GR00T's"),
    ):
        make_policy(parse_policy(f"gr00t://127.0.0.1:{port}"))
    with pytest.raises(PolicyServerDied, match=r"No GR00T server answers at gr00t://127.0.0.1:9 \(no answer within"):
        make_policy(parse_policy("gr00t://127.0.0.1:9?connect_s=0.1"))


@pytest.mark.parametrize("what", ["object", "shape", "fortran", "cut"])
def test_an_array_that_is_none_is_refused_before_memory_is_taken(what):
    sound = gr00t._encode(np.zeros((2, 3), np.float32))["as_npy"]
    damaged = {
        "object": sound.replace(b"'<f4'", b"'|O' "),
        "shape": sound.replace(b"(2, 3)", b"(9999999999,)")[: len(sound)],
        "fortran": sound.replace(b"False", b"True "),
        "cut": sound[:-4],
    }[what]
    data = msgpack.packb({"a": {gr00t.ARRAY: True, "as_npy": damaged}})
    with pytest.raises(PolicyError, match="no msgpack message"):
        gr00t.unpack(data, sender="The server")


@pytest.mark.parametrize("arch", ["pi0", "smolvla"])
def test_vlacpp_is_asked_in_its_own_clients_bytes(arch):
    tokens = [1, 3, 4, 5, 6, 7, 10]
    question = vlacpp.encode_request(COLOURS, tokens, vlacpp.PRESETS[arch], None, 0)
    ours, theirs = (
        vlacpp.message_class("PredictRequest").FromString(each)
        for each in (question, recorded(f"vlacpp_{arch}_request.bin.gz"))
    )
    assert list(ours.lang_tokens) == list(theirs.lang_tokens)
    assert list(ours.state) == list(theirs.state)
    for one, other in zip(ours.images, theirs.images, strict=True):
        assert (one.encoding, one.height, one.width) == (other.encoding, other.height, other.width)
        np.testing.assert_allclose(np.frombuffer(one.data, "<f4"), np.frombuffer(other.data, "<f4"), atol=1e-6)
    assert not theirs.noise


def test_a_frame_is_resized_as_vlacpps_client_does_it():
    torch = pytest.importorskip("torch", reason="the extra `policies` is not installed")
    frame = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for size in (224, 512):
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(frame.transpose(2, 0, 1)[None].astype(np.float32) / 255),
            size=(size, size), mode="bilinear", align_corners=False,
        )[0].numpy().transpose(1, 2, 0)  # fmt: skip
        np.testing.assert_allclose(vlacpp.fitted(frame, size), theirs, atol=5e-5)  # torch counts pixels in float32
    wide = vlacpp.fitted(np.full((128, 256, 3), 255, np.uint8), 64)
    assert (wide[:32] == 0).all()
    assert (wide[32:] == 1).all()


def vla_server(question: bytes) -> bytes:
    """The recorded answer, under the number of the question."""
    answer = vlacpp.message_class("PredictResponse").FromString(recorded("vlacpp_answer.bin"))
    answer.request_id = vlacpp.message_class("PredictRequest").FromString(question).request_id
    return answer.SerializeToString()


def test_keyed_noise_travels_to_vlacpp_and_its_times_are_told_apart():
    noise = np.random.default_rng(0).standard_normal((1, 5, 32)).astype(np.float32)
    with answering(vla_server) as (port, asked):
        policy = make_policy(parse_policy(f"vlacpp://127.0.0.1:{port}?arch=pi0&tokenizer={DATA}"))
        answer = policy.act([COLOURS], noise)
        policy.close()
    assert (policy.info.noise_shape, policy.info.chunk_length, policy.info.replan_interval) == ((5, 32), 5, 5)
    np.testing.assert_array_equal(answer.actions[0], np.arange(160, dtype=np.float32).reshape(5, 32)[:, :7])
    question = vlacpp.message_class("PredictRequest").FromString(asked[-1])
    np.testing.assert_array_equal(np.array(question.noise, np.float32), noise.ravel())
    theirs = vlacpp.message_class("PredictRequest").FromString(recorded("vlacpp_pi0_request.bin.gz"))
    assert list(question.lang_tokens) == list(theirs.lang_tokens)
    assert policy.provenance["sends_image_size"] == "224×224"
    assert not any("noise" in warning for warning in policy.warnings)


def test_vlacpps_complaints_are_told_and_another_answer_is_refused():
    error = vlacpp.message_class("PredictResponse").FromString(recorded("vlacpp_error.bin"))
    with pytest.raises(PolicyError, match="answered with an error: state length 8 != expected 32"):
        vlacpp.decode_answer(error.SerializeToString(), 3, None, "The server")
    sound = recorded("vlacpp_answer.bin")
    with pytest.raises(PolicyError, match="answered request 0 in place of 5"):
        vlacpp.decode_answer(sound, 5, None, "The server")
    with pytest.raises(PolicyError, match=r"\(4, 7\)"):
        vlacpp.decode_answer(sound, 0, 4, "The server")
    for damaged in (b"", sound[:-3], b"\xff" * 40):
        with pytest.raises(PolicyError):
            vlacpp.decode_answer(damaged, 0, None, "The server")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("vlacpp://h:1", "arch is missing"),
        ("vlacpp://h:1?arch=pi0", "tokenizer is missing"),
        ("vlacpp://h:1?arch=bitvla&tokenizer=x", "arch is 'bitvla'; it is one of pi0, smolvla"),
        ("vlacpp://h:1/path?arch=pi0&tokenizer=x", "has a path"),
        ("gr00t://wss://h:1", "has TLS"),
        ("gr00t://h:1?layout=round", "one of nested, flat"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(text, told):
    with pytest.raises(UsageError, match=told):
        POLICIES.check(parse_policy(text), local=False)


def test_a_tokenizer_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"where no tokenizer\.json lies"):
        make_policy(parse_policy(f"vlacpp://127.0.0.1:9?arch=pi0&tokenizer={tmp_path}"))
