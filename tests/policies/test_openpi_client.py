"""The near end of openpi's protocol, against servers that are plain openpi, broken, or no openpi servers at all."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgpack
import numpy as np
import pytest
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as open_server

from harness.errors import PolicyError, PolicyServerDied, PolicyServerLost, UsageError
from harness.policies.openpi.client import OpenPiPolicy, connect
from harness.policies.openpi.messages import Welcome, decode_request, encode_welcome
from harness.policies.openpi.options import OpenpiOptions
from harness.policies.openpi.wire import pack, unpack
from harness.policies.options import read_options
from harness.policies.registry import make_policy
from harness.policies.servers.address import LONGEST_PAUSE_S, Address, parse_address, pause_s
from harness.spec import parse_policy
from harness.spec.observation import CAMERAS, Observation, PolicyInfo

QUICK = OpenpiOptions(connect_s=0.3, reconnect_s=0.3, answer_s=5.0)
SEEN = Observation(
    "open the drawer",
    np.arange(8, dtype=np.float32),
    {camera: np.full((4, 4, 3), n, np.uint8) for n, camera in enumerate(CAMERAS)},
)
CHUNK = np.arange(35, dtype=np.float64).reshape(5, 7)


@contextmanager
def listening(handler: Callable[[ServerConnection], None], port: int = 0, **options) -> Iterator[Address]:
    """A websocket server in a thread."""
    with open_server(handler, "127.0.0.1", port, compression=None, max_size=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Address("127.0.0.1", server.socket.getsockname()[1])
        finally:
            server.shutdown()
            thread.join()


def plain_openpi(answers: Callable[[dict], object], metadata: dict | None = None) -> Callable[[ServerConnection], None]:
    """Openpi's own server, by its protocol: metadata, then an answer to every question; text is an error."""

    def handle(connection: ServerConnection) -> None:
        connection.send(pack(metadata or {}))
        for frame in connection:
            answer = answers(unpack(frame, sender="test"))
            connection.send(answer if isinstance(answer, str | bytes) else pack(answer))

    return handle


def policy_at(address: Address, options: OpenpiOptions = QUICK, token: str | None = None) -> OpenPiPolicy:
    return connect(address, options, label=str(address), token=token)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("robot:8001", Address("robot", 8001)),
        ("robot", Address("robot", 8000)),
        ("10.0.0.7:80/", Address("10.0.0.7", 80)),
        ("[::1]:9000", Address("::1", 9000)),
        ("localhost:8000/some/path", Address("localhost", 8000, "/some/path")),
        ("wss://robot/v1/policy/", Address("robot", 443, "/v1/policy", True)),
        ("ws://[::1]:9000", Address("::1", 9000)),
    ],
)
def test_an_address_is_a_host_and_a_port(text, address):
    assert parse_address(text) == address
    assert parse_policy(f"openpi://{text}").path == text


@pytest.mark.parametrize("text", [None, "", ":8000", "robot:port", "robot:99999", "robot:0", "http://robot:1", "a b:1"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"write openpi://HOST:PORT\[/PATH\]"):
        parse_address(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token": "secret"}, "Did you mean 'token_env'"),
        ({"reconnect_s": 0}, "reconnect_s is 0"),
        ({"answer_s": "soon"}, "answer_s is 'soon'"),
        ({"replan": 0}, "replan is 0"),
        ({"control_mode": "joint"}, "relative, absolute"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_named(given, message):
    with pytest.raises(UsageError, match=message):
        read_options(OpenpiOptions, "openpi", given)


def test_pauses_double_up_to_a_limit():
    pauses = [pause_s(attempt) for attempt in range(12)]
    assert pauses[:3] == [0.1, 0.2, 0.4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S == pause_s(10_000)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "bool"])
def test_arrays_survive_the_wire_to_the_bit(dtype):
    array = np.random.default_rng(0).integers(0, 2, (3, 4, 2)).astype(dtype)
    message = unpack(pack({"a": array, "b": [array.reshape(-1)[0]], "c": {"d": None}}), sender="test")
    np.testing.assert_array_equal(message["a"], array)
    assert message["a"].flags.writeable
    assert (message["a"].dtype, message["b"], message["c"]) == (array.dtype, [array.flat[0]], {"d": None})


def test_arrays_of_objects_are_neither_sent_nor_built():
    with pytest.raises(TypeError, match="dtype object"):
        pack({"a": np.array([{}], dtype=object)})
    hostile = msgpack.packb({"a": {b"__ndarray__": True, b"data": b"12345678", b"dtype": "|O", b"shape": (1,)}})
    with pytest.raises(PolicyError, match="dtype object is refused"):
        unpack(hostile, sender="The client")


def test_a_plain_openpi_server_is_asked_in_openpis_words_and_found_out():
    asked = []

    def answer(question):
        asked.append(question)
        return {"actions": CHUNK, "server_timing": {"infer_ms": 12.5}}

    with listening(plain_openpi(answer, {"reset_pose": [0, 1]})) as address:
        policy = policy_at(address)
        chunks = policy.act([SEEN], None)
    info = policy.info
    assert (info.chunk_length, info.replan_interval, info.cameras, info.nfe_options) == (5, 5, CAMERAS, ())
    assert (info.placement, info.noise_shape, info.max_batch) == ("worker", None, 1)
    assert "draws its own noise" in policy.warnings[0]
    question = asked[-1]
    assert set(question) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    assert question["prompt"] == "open the drawer"
    assert (question["observation/image"].max(), question["observation/wrist_image"].max()) == (0, 1)
    np.testing.assert_array_equal(question["observation/state"], SEEN.state)
    np.testing.assert_array_equal(chunks.actions, CHUNK[np.newaxis].astype(np.float32))
    assert chunks.remote is not None
    assert chunks.remote.infer_ms == 12.5


def test_a_server_that_reports_no_times_has_taken_all_of_the_round_trip():
    with listening(plain_openpi(lambda question: {"actions": CHUNK})) as address:
        remote = policy_at(address).act([SEEN], None).remote
    assert remote.infer_ms > 0
    assert remote.transport_ms is None


def test_the_replan_interval_of_a_plain_server_is_openpis_or_what_was_asked():
    long = np.zeros((50, 7))
    with listening(plain_openpi(lambda question: {"actions": long})) as address:
        assert policy_at(address).info.replan_interval == 5
        assert make_policy(parse_policy(f"{address}?replan=10")).info.replan_interval == 10


@pytest.mark.parametrize("module", ["websockets", "msgpack"])
def test_a_node_that_lacks_a_package_is_told_which(module):
    """A simulation node is installed without the policies' packages."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from harness.policies.registry import make_policy\nfrom harness.spec import parse_policy\n"
        "make_policy(parse_policy('openpi://localhost:9'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"PolicyError: openpi:// needs the module '{module}" in done.stderr


def test_nobody_there_is_the_infrastructures_fault_and_names_the_remedy():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", unused.getsockname()[1])
        with pytest.raises(PolicyServerDied, match=rf"{address}.*refused.*harness serve --policy"):
            policy_at(address)


def test_a_web_server_is_told_from_an_openpi_server():
    class Hello(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(PolicyError, match=r"web server \(HTTP status 200\)"):
            policy_at(Address("127.0.0.1", server.server_port))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("at_once", [False, True])
def test_something_that_speaks_no_http_is_told_too(at_once):
    """A server that greets at once may be faster than the request, and then only breaks the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if not at_once:
                        connection.recv(4096)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
                    connection.settimeout(1.0)
                    with suppress(OSError):
                        connection.recv(4096)

        thread = threading.Thread(target=greet)
        thread.start()
        told = r"does not speak HTTP/1\.1" + ("|broke during the handshake" if at_once else "")
        try:
            with pytest.raises(PolicyError, match=told):
                policy_at(Address("127.0.0.1", listener.getsockname()[1]))
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b"\xc1 no msgpack", "no msgpack message"),
        (msgpack.packb([1, 2]), "a msgpack list, not a map"),
        ("welcome", "in place of its metadata: welcome"),
        (pack({"harness": {"protocol": 2}}), "speaks version 2 of the harness's protocol, this end version 1"),
        (pack({"harness": {"protocol": 1, "info": {}}}), "in a way that cannot be read"),
    ],
)
def test_a_first_message_that_is_not_openpis_is_refused_at_once(first, message):
    with listening(lambda connection: connection.send(first)) as address, pytest.raises(PolicyError, match=message):
        policy_at(address)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"actions": np.zeros((5, 14))}, r"shape \(5, 14\).*\(T, 7\) numbers; it serves another robot"),
        ({"actions": np.zeros(7)}, r"shape \(7,\)"),
        ({"actions": np.zeros((0, 7))}, r"shape \(0, 7\)"),
        ({"state": 1}, "without 'actions'; it sent 'state'"),
        ("Traceback (most recent call last):\n  File …\nValueError: bad prompt\n", "ValueError: bad prompt$"),
    ],
)
def test_an_answer_that_is_no_chunk_is_the_servers_fault_and_is_shown(answer, message):
    with (
        listening(plain_openpi(lambda question: answer)) as address,
        pytest.raises(PolicyError, match=message) as caught,
    ):
        policy_at(address)
    assert not isinstance(caught.value, PolicyServerDied)


def test_a_chunk_of_another_length_than_before_is_refused():
    lengths = iter([5, 4])
    with listening(plain_openpi(lambda question: {"actions": np.zeros((next(lengths), 7))})) as address:
        policy = policy_at(address)
        with pytest.raises(PolicyError, match=r"shape \(4, 7\).*not \(5, 7\)"):
            policy.act([SEEN], None)


def test_a_question_is_asked_again_after_the_connection_broke():
    questions = []

    def handle(connection):
        connection.send(pack({}))
        for frame in connection:
            questions.append(unpack(frame, sender="test")["prompt"])
            if len(questions) == 2:
                connection.socket.close()
                return
            connection.send(pack({"actions": CHUNK}))

    with listening(handle) as address:
        chunks = policy_at(address).act([SEEN], None)
    assert chunks.actions.shape == (1, 5, 7)
    assert questions == ["do nothing", "open the drawer", "open the drawer"]


def test_a_server_that_stays_away_is_an_error_to_retry_and_in_the_end_one_that_stops_the_run():
    with listening(plain_openpi(lambda question: {"actions": CHUNK})) as address:
        policy = policy_at(address)
    for _ in range(2):
        with pytest.raises(PolicyServerDied, match=r"lost at decision 0 and did not come back within 0.3 s"):
            policy.act([SEEN], None)
    with pytest.raises(PolicyServerLost, match=r"3 times in a row.*--resume"):
        policy.act([SEEN], None)
    with listening(plain_openpi(lambda question: {"actions": CHUNK}), port=address.port):
        assert policy.act([SEEN], None).actions.shape == (1, 5, 7)


def test_a_server_that_never_answers_is_given_up_within_its_limit():
    def silent(connection):
        connection.send(pack(metadata))
        for _ in connection:
            pass

    metadata = encode_welcome(Welcome(PolicyInfo("mute", chunk_length=5)))
    with listening(silent) as address:
        policy = policy_at(address, OpenpiOptions(connect_s=0.3, reconnect_s=0.3, answer_s=0.2))
        with pytest.raises(PolicyServerDied, match=r"again and again for 0.3 s \(no answer within 0.2 s\)"):
            policy.act([SEEN], None)


def test_a_server_that_comes_back_with_another_policy_stops_the_run():
    served = iter(["repo@1", "repo@2"])

    def handle(connection):
        connection.send(pack(encode_welcome(Welcome(PolicyInfo("p", checkpoint=next(served))))))
        connection.recv()
        connection.socket.close()

    with listening(handle) as address:
        policy = policy_at(address)
        with pytest.raises(PolicyServerLost, match="checkpoint was 'repo@1', now it is 'repo@2'"):
            policy.act([SEEN], None)


def test_an_interrupted_decision_does_not_leave_its_answer_to_the_next():
    """The alarm of a time limit rings inside `recv`; the late answer must die with its connection."""

    class Rang(BaseException):
        pass

    numbers = iter(range(100))

    def answer(question):
        return {"actions": np.full((5, 7), next(numbers), np.float32)}

    with listening(plain_openpi(answer)) as address:
        policy = policy_at(address)
        link = policy._link
        assert link is not None
        receive, link._socket.recv = link._socket.recv, lambda timeout=None: (_ for _ in ()).throw(Rang)
        with pytest.raises(Rang):
            policy.act([SEEN], None)
        link._socket.recv = receive
        assert policy.act([SEEN], None).actions[0, 0, 0] == 2


def test_a_secure_address_may_stand_alone_and_is_written_as_it_is_read():
    spec = parse_policy("wss://robot/v1?replan=3")
    assert (spec.kind, spec.path, spec.options) == ("openpi", "wss://robot/v1", {"replan": 3})
    assert parse_policy(spec.text) == spec
    address = parse_address(spec.path)
    assert (str(address), address.url) == ("openpi://wss://robot:443/v1", "wss://robot:443/v1")
    assert parse_address(str(address).removeprefix("openpi://")) == address


def test_a_server_is_reached_under_its_path():
    seen = []

    def handle(connection):
        seen.append(connection.request.path)
        plain_openpi(lambda question: {"actions": CHUNK})(connection)

    with listening(handle) as (host, port, *_):
        policy = policy_at(Address(host, port, "/some/path"))
        policy.close()
    assert seen == ["/some/path"]


class Flaky:
    """Another project's server that hangs up after the second question, with metadata that change as told."""

    def __init__(self, *metadata: dict) -> None:  # noqa: D107
        self.metadata, self.connections = metadata, 0

    def __call__(self, connection: ServerConnection) -> None:
        connection.send(pack(self.metadata[min(self.connections, len(self.metadata) - 1)]))
        self.connections += 1
        for count, _ in enumerate(connection):
            if self.connections == 1 and count == 1:
                connection.socket.close()
                return
            connection.send(pack({"actions": CHUNK}))


@pytest.mark.parametrize(
    ("before", "after", "warned"),
    [
        ({"action_mean": np.zeros(7, np.float32)}, {"action_mean": np.zeros(7, np.float32)}, None),
        ({"scale": float("nan")}, {"scale": float("nan")}, None),
        ({"model": "x", "session_id": "1"}, {"model": "x", "session_id": "2"}, "session_id"),
        ({"model": "x", "uptime_s": 1.5}, {"model": "x"}, "uptime_s"),
        ({"harness": "v2"}, {"harness": "v2"}, None),
    ],
)
def test_what_is_no_policy_may_change_when_a_server_comes_back(before, after, warned, caplog):
    with listening(Flaky(before, after)) as address:
        policy = policy_at(address)
        policy.act([SEEN], None)
        policy.act([SEEN], None)
        policy.close()
    assert [record.args[1] for record in caplog.records if "metadata" in record.msg] == ([warned] if warned else [])


def test_another_model_behind_the_same_address_stops_the_run():
    with listening(Flaky({"model": "x"}, {"model": "y"})) as address:
        policy = policy_at(address)
        assert policy.info.stated_identity.configuration is not None
        with pytest.raises(PolicyServerLost, match="came back with another policy: model was"):
            policy.act([SEEN], None)


@pytest.mark.parametrize(
    "timing",
    [{"infer_ms": "3.0 ms"}, {"infer_ms": None}, {"infer_ms": float("nan")}, {"infer_ms": -1.0}, "3 ms", None, [3.0]],
)
def test_times_that_cannot_be_read_cost_no_action(timing):
    with listening(plain_openpi(lambda question: {"actions": CHUNK, "server_timing": timing})) as address:
        policy = policy_at(address)
        answer = policy.act([SEEN], None)
        policy.close()
    assert answer.remote.infer_ms > 0
    assert answer.remote.transport_ms is None


def test_a_time_that_is_missing_leaves_the_others():
    timing = {"infer_ms": 3.0, "queue_ms": None}
    answers = plain_openpi(lambda question: {"actions": CHUNK, "server_timing": timing, "harness": "v2"})
    with listening(answers) as address:
        policy = policy_at(address)
        remote = policy.act([SEEN], None).remote
        policy.close()
    assert (remote.infer_ms, remote.queue_ms) == (3.0, 0.0)


MESSAGE = {
    "observation/image": SEEN.images[CAMERAS[0]],
    "observation/wrist_image": SEEN.images[CAMERAS[1]],
    "observation/state": SEEN.state,
    "prompt": "open the drawer",
}


@pytest.mark.parametrize(
    "prompt",
    ["open the drawer", b"open the drawer", ["open the drawer"], np.array("open the drawer"),
     np.array(["open the drawer"]), np.array([b"open the drawer"]), [[b"open the drawer"]]],
)  # fmt: skip
def test_an_instruction_is_a_text_however_it_is_wrapped(prompt):
    info = PolicyInfo("p", cameras=CAMERAS)
    read = decode_request({**MESSAGE, "prompt": prompt}, info, connection="c", count=0)
    assert read.observation.instruction == "open the drawer"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompt": None}, "'prompt' is None, which is no instruction"),
        ({"prompt": 5}, "'prompt' is 5"),
        ({"prompt": ["a", "b"]}, "'prompt' is "),
        ({"prompt": b"\xff\xfe"}, "no UTF-8"),
        ({"observation/image": np.zeros((0, 0, 3), np.uint8)}, "has shape"),
        ({"observation/state": np.full(8, np.nan)}, "NaN or infinite"),
    ],
)
def test_what_is_no_observation_is_refused(changes, told):
    with pytest.raises(PolicyError, match=told):
        decode_request({**MESSAGE, **changes}, PolicyInfo("p", cameras=CAMERAS), connection="c", count=0)
