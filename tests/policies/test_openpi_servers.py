"""Servers of openpi's protocol as other projects put them up: under a path, over TLS, with declared conventions."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from test_openpi_client import CHUNK, QUICK, SEEN, policy_at
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as open_server

from harness.errors import PolicyError, UsageError
from harness.policies.openpi.options import OpenpiOptions
from harness.policies.openpi.wire import pack, unpack
from harness.policies.registry import make_policy
from harness.policies.servers.address import Address
from harness.spec import parse_policy

ROBOT = "/v1/realtime/robot/openpi"
"""Where vLLM-Omni serves."""
OMNI = {
    "image_resolution": (224, 224), "n_external_cameras": 1, "needs_wrist_camera": True, "needs_stereo_camera": False,
    "needs_session_id": True, "action_space": "eef_delta", "action_horizon": 50, "action_dim": 32,
}  # fmt: skip
"""A handshake as vLLM-Omni sends it; the keys are those of its `PolicyServerConfig`."""


class Listening:
    """A server that notes what it is asked, and under which path."""

    def __init__(self, answer: Callable[[dict], object], metadata: dict | None = None) -> None:  # noqa: D107
        self.answer, self.metadata = answer, metadata or {}
        self.paths: list[str] = []
        self.asked: list[dict] = []

    def __call__(self, connection: ServerConnection) -> None:
        self.paths.append(connection.request.path)
        connection.send(pack(self.metadata))
        for frame in connection:
            self.asked.append(unpack(frame, sender="test"))
            answer = self.answer(self.asked[-1])
            connection.send(answer if isinstance(answer, bytes) else pack(answer))


@contextmanager
def serving(handler: Listening, path: str = "", context: ssl.SSLContext | None = None) -> Iterator[Address]:
    with open_server(handler, "127.0.0.1", 0, compression=None, max_size=None, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Address("127.0.0.1", server.socket.getsockname()[1], path, context is not None)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that 127.0.0.1 signed for itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a robot's box")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    pem, private = folder / "box.pem", folder / "box.key"
    pem.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


@pytest.fixture(scope="module")
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize("path", ["", "/a", ROBOT, "/a/b%20c/d-e_f.g"])
def test_a_server_is_asked_under_its_path(path):
    handler = Listening(lambda question: {"actions": CHUNK})
    with serving(handler, path) as address:
        spec = parse_policy(f"{address}?connect_s=5")
        assert (spec.kind, parse_policy(spec.text)) == ("openpi", spec)
        policy = make_policy(spec)
        np.testing.assert_array_equal(policy.act([SEEN], None).actions[0], CHUNK.astype(np.float32))
        policy.close()
    assert handler.paths == [path or "/"]
    assert policy.provenance["address"] == str(address)


def test_a_server_is_reached_over_tls_under_a_path_and_reached_again(context, certificate):
    handler = Listening(lambda question: {"actions": CHUNK})
    with serving(handler, ROBOT, context) as address:
        spec = parse_policy(f"wss://{address.netloc}{ROBOT}?ca={certificate[0]}")
        policy = make_policy(spec)
        assert policy.act([SEEN], None).actions.shape == (1, 5, 7)
        policy._link._socket.socket.close()
        assert policy.act([SEEN], None).actions.shape == (1, 5, 7)
        policy.close()
    assert handler.paths == [ROBOT, ROBOT]


def test_a_certificate_that_nobody_vouches_for_is_refused_and_so_is_tls_where_there_is_none(context):
    with (
        serving(Listening(lambda question: {"actions": CHUNK}), "", context) as address,
        pytest.raises(PolicyError, match=r"does not agree on TLS.*certificate"),
    ):
        policy_at(address)
    with (
        serving(Listening(lambda question: {"actions": CHUNK})) as plain,
        pytest.raises(PolicyError, match="does not agree on TLS"),
    ):
        policy_at(plain._replace(secure=True))


def test_a_file_without_certificates_is_named(tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(UsageError, match=rf"{name}', of which no certificate can be read"):
            policy_at(Address("127.0.0.1", 9, "", True), OpenpiOptions(ca=str(tmp_path / name), connect_s=0.2))


def omni(**changes) -> Listening:
    """A server of vLLM-Omni's kind: a bare array is the whole answer."""
    return Listening(lambda question: pack_bare(np.ones((50, 32), np.float32)), {**OMNI, **changes})


def pack_bare(array: np.ndarray) -> bytes:
    import msgpack

    from harness.policies.openpi.wire import encode

    return msgpack.packb(array, default=encode)


def test_a_server_that_declares_its_size_gets_it_and_its_padding_is_cut_where_the_user_says_so():
    handler = omni()
    keys = "image_key=observation.images.base_0_rgb&wrist_key=observation.images.left_wrist_0_rgb&state_key=state"
    with serving(handler, ROBOT) as address:
        policy = make_policy(parse_policy(f"{address}?padded=true&{keys}"))
        assert policy.act([SEEN], None).actions.shape == (1, 50, 7)
        policy.close()
    question = handler.asked[-1]
    assert set(question) == {
        "observation.images.base_0_rgb", "observation.images.left_wrist_0_rgb", "state", "prompt", "session_id",
    }  # fmt: skip
    assert question["observation.images.base_0_rgb"].shape == (224, 224, 3)
    assert policy.provenance["sends_image_size"] == "224×224"
    assert "padding" in policy.provenance["expects_actions"]


@pytest.mark.parametrize(
    ("declared", "options", "told"),
    [
        ({"action_dim": 14}, {}, r"action_dim: it declares 14, this client has 7"),
        ({"action_dim": 6}, {"padded": True}, r"action_dim: it declares 6, this client has 7"),
        ({"action_space": "joint_position"}, {"padded": True}, "action_space: it declares 'joint_position'"),
        ({"n_external_cameras": 2}, {"padded": True}, "external cameras: it declares 2, this client has 1"),
        ({"needs_stereo_camera": True}, {"padded": True}, "stereo cameras: it declares needed"),
        (
            {"image_resolution": [180, 320]},
            {"padded": True, "image_size": 224},
            r"size of frames: it declares 180×320, this client has 224×224 \(image_size\)",
        ),
    ],
)
def test_a_server_that_declares_another_robot_is_refused_in_one_message_with_both_sides(declared, options, told):
    handler = omni(**declared)
    with serving(handler) as address:
        with pytest.raises(PolicyError, match=rf"do not fit\..*{told}.*declared=ignore"):
            policy_at(address, QUICK.model_copy(update=options))
        assert handler.asked == []
        if declared.get("action_dim") != 6:
            ignoring = QUICK.model_copy(update={**options, "padded": True, "declared": "ignore"})
            assert policy_at(address, ignoring).act([SEEN], None).actions.shape == (1, 50, 7)


def test_a_padded_answer_is_no_action_of_this_robot_unless_the_user_says_so():
    with serving(omni(action_dim=None)) as address, pytest.raises(PolicyError, match=r"shape \(50, 32\)"):
        policy_at(address)


def test_an_error_that_comes_as_a_message_is_shown():
    handler = Listening(lambda question: {"type": "error", "message": "state has 8 numbers, not 32"})
    with serving(handler) as address, pytest.raises(PolicyError, match=r"with an error .*: state has 8 numbers"):
        policy_at(address)


def test_frames_keep_their_aspect_when_they_are_resized():
    from harness.policies.servers.convention import resized

    frame = np.full((128, 256, 3), 200, np.uint8)
    small = resized(frame, (224, 224))
    assert small.shape == (224, 224, 3)
    assert (small[56:168] == 200).all()
    assert (small[:56] == 0).all()
    assert (small[168:] == 0).all()
    np.testing.assert_array_equal(resized(frame, None), frame)
