"""The near end of vla-eval's protocol: a benchmark of its kind, with this project's simulator behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from harness.errors import PolicyError, PolicyServerLost
from harness.policies.openpi.link import HANDSHAKE_S, SHOWN, open_websocket, trusting
from harness.policies.servers.address import Address, LinkLost, ask_first, insist
from harness.policies.servers.convention import STATE_LAYOUT, Convention, chunk_of, require_agreement
from harness.policies.servers.options import ServerOptions
from harness.policies.servers.reconnecting import ReconnectingPolicy
from harness.policies.vla_eval import wire
from harness.policies.vla_eval.convention import (
    FRONT,
    WRIST,
    disagreements,
    shortest,
    unhonoured,
    wanted,
)
from harness.policies.vla_eval.wire import Message
from harness.spec.identity import PolicyIdentity, digest_of
from harness.spec.observation import CAMERAS, Observation, PolicyInfo, RemoteTiming

IDENTIFYING = ("model_server", "harness_version", "action_spec", "observation_spec", "observation_params")
"""What a HELLO says of which policy answers."""
REMEDY = "Serve a checkpoint for LIBERO in this convention, or set `control_mode` of the policy and the protocol."


class VlaEvalLink:
    """One open connection, with its server's HELLO."""

    def __init__(self, address: Address) -> None:
        """Connect once and greet.

        Raises:
            LinkLost: Nobody answers.
            PolicyError: Whoever answers speaks something else.
        """
        self.address = address
        trusted = trusting(None) if address.secure else None
        self._socket = open_websocket(address, None, trusted, "vla-eval")
        self._seq = 0
        self.episode: str | None = None
        try:
            hello = {"harness_version": "vla-harness", "protocol_version": wire.PROTOCOL_VERSION, "benchmark": "libero"}
            self.hello = self._greet(hello)
        except BaseException:
            self.close()
            raise

    def begin(self, seen: Observation) -> None:
        """Start an episode, which ends the one before."""
        self.end()
        self.send(wire.EPISODE_START, {"task": {"name": seen.instruction, "episode": seen.episode_key}})
        self.episode = seen.episode_key

    def end(self) -> None:
        """End the episode that is open, if there is one."""
        if self.episode is not None:
            self.send(wire.EPISODE_END, {})
            self.episode = None

    def send(self, kind: str, payload: Mapping[str, Any]) -> int:
        """Send a message and say which number it has.

        Raises:
            LinkLost: The connection broke.
        """
        self._seq += 1
        try:
            self._socket.send(wire.pack(Message(kind, payload, self._seq)))
        except (ConnectionClosed, OSError) as error:
            raise LinkLost(str(error) or type(error).__name__) from error
        return self._seq

    def receive(self, seq: int, kind: str, limit_s: float) -> Mapping[str, Any]:
        """Wait for the answer to message `seq`.

        Raises:
            LinkLost: The connection broke, or no answer came in time.
            PolicyError: The server complains, or answers something else.
        """
        try:
            frame = self._socket.recv(timeout=limit_s)
        except TimeoutError as error:
            raise LinkLost(f"no answer within {limit_s:g} s") from error
        except (ConnectionClosed, OSError) as error:
            raise LinkLost(str(error) or type(error).__name__) from error
        if isinstance(frame, str):
            raise PolicyError(f"{self.address} sent a text in place of vla-eval's messages: {frame[:SHOWN]}")
        message = wire.unpack(frame, sender=str(self.address))
        if message.type == wire.ERROR:
            raise PolicyError(f"{self.address} answered with an error: {str(message.payload.get('error'))[:SHOWN]}")
        if message.type != kind or message.seq != seq:
            raise PolicyError(
                f"{self.address} answered {message.type!r} number {message.seq} in place of {kind!r} number {seq}."
            )
        return message.payload

    def close(self) -> None:
        """Hang up, without waiting for the other end to agree."""
        self._socket.close_timeout = 0.0
        self._socket.close()

    def _greet(self, hello: Mapping[str, Any]) -> Mapping[str, Any]:
        seq = self.send(wire.HELLO, hello)
        try:
            payload = self.receive(seq, wire.HELLO, HANDSHAKE_S)
        except LinkLost as error:
            raise PolicyError(
                f"{self.address} accepts websockets but answered no HELLO ({error}); it is no model server of vla-eval."
            ) from error
        wire.require_version(payload, str(self.address))
        return payload


def connect(
    address: Address,
    options: ServerOptions,
    *,
    label: str,
    seconds: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> VlaEvalPolicy:
    """Connect to a server, learn what it declares, and ask it once about an empty scene.

    Args:
        address: The server.
        options: How to treat it.
        label: Name of the policy in ledgers.
        seconds: Stopwatch.
        sleep: Waits.

    Raises:
        PolicyServerDied: Nobody answers within `options.connect_s`.
        PolicyError: Whoever answers is no such server, or one for another robot.
    """

    def length_of(link: VlaEvalLink) -> int:
        require_agreement(str(address), disagreements(link.hello, options.control_mode), REMEDY)
        return _length(link, options)

    link, length = ask_first(
        lambda: insist(lambda: VlaEvalLink(address), options.connect_s, seconds=seconds, sleep=sleep),
        length_of,
        address,
        who="model server of vla-eval",
        remedy="Start one there (`vla-eval serve -c …`) or check host and port.",
    )
    stated = {name: link.hello.get(name) for name in IDENTIFYING}
    info = PolicyInfo(
        policy_id=label,
        cameras=CAMERAS if wanted(link.hello, "send_wrist_image") else CAMERAS[:1],
        chunk_length=length,
        replan_interval=min(options.replan or length, length),
        control_mode=options.control_mode,
        max_batch=1,
        remote=True,
        identity=PolicyIdentity(configuration=digest_of(stated)),
    )
    return VlaEvalPolicy(link, info, options, seconds, sleep)


def _length(link: VlaEvalLink, options: ServerOptions) -> int:
    """Actions of one answer: 1 from a server that keeps its chunks to itself."""
    blank = np.zeros((256, 256, 3), np.uint8)
    scene = Observation("do nothing", np.zeros(8, np.float32), dict.fromkeys(CAMERAS, blank), episode_key="none")
    link.begin(scene)
    actions = _ask(link, scene, options, None)
    link.end()
    return len(actions)


def _ask(link: VlaEvalLink, seen: Observation, options: ServerOptions, length: int | None) -> NDArray[np.float32]:
    seq = link.send(wire.OBSERVATION, _encoded(seen, link.hello))
    payload = link.receive(seq, wire.ACTION, options.answer_s)
    value = payload.get("actions", payload.get("action"))
    if value is None:
        raise PolicyError(f"{link.address} answered without 'actions'; it sent {', '.join(map(repr, payload))}.")
    actions = np.asarray(value)
    return chunk_of(actions[np.newaxis] if actions.ndim == 1 else actions, length, str(link.address))


def _encoded(seen: Observation, hello: Mapping[str, Any]) -> dict[str, Any]:
    """An observation as vla-eval's LIBERO benchmark sends it: only what the server asked for."""
    front, wrist = (seen.images.get(camera) for camera in CAMERAS)
    images = {FRONT: np.ascontiguousarray(front)}
    if wanted(hello, "send_wrist_image"):
        images[WRIST] = np.ascontiguousarray(wrist)
    message: dict[str, Any] = {"images": images, "task_description": seen.instruction}
    if wanted(hello, "send_state"):
        message["states"] = seen.state if wanted(hello, "quat_no_antipodal") else shortest(seen.state)
    return message


class VlaEvalPolicy(ReconnectingPolicy[VlaEvalLink]):
    """A model server of vla-eval. It keeps its chunks per episode, so an episode ends with its connection."""

    def __init__(
        self,
        link: VlaEvalLink,
        info: PolicyInfo,
        options: ServerOptions,
        seconds: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Take over an open connection; see `connect`."""
        super().__init__(link, link.address, info, options, stateful=True, seconds=seconds, sleep=sleep)
        self._identity = info.identity
        self.provenance = _provenance(link)
        self.warnings = _warnings(link.hello)

    def end_episode(self, episode_key: str) -> None:
        """Say that an episode has ended; a lost connection has ended it already."""
        if self._link is None or self._link.episode != episode_key:
            return
        try:
            self._link.end()
        except LinkLost:
            self._hang_up()

    def _ask(
        self, link: VlaEvalLink, seen: Observation, noise: NDArray[np.float32] | None, nfe: int | None
    ) -> tuple[NDArray[np.float32], RemoteTiming]:
        del noise, nfe
        if link.episode != seen.episode_key or seen.decision == 0:
            link.begin(seen)
        began = self._seconds()
        actions = _ask(link, seen, self._options, self.info.chunk_length)
        return actions, RemoteTiming((self._seconds() - began) * 1e3)

    def _open(self, limit_s: float) -> VlaEvalLink:
        link = insist(lambda: VlaEvalLink(self._address), limit_s, seconds=self._seconds, sleep=self._sleep)
        stated = PolicyIdentity(configuration=digest_of({name: link.hello.get(name) for name in IDENTIFYING}))
        if stated != self._identity:
            link.close()
            raise PolicyServerLost(
                f"The server at {self._address} came back and declares something else than before ("
                f"{link.hello.get('model_server')!r}). Start the one that this run began with, then continue with "
                "--resume."
            )
        return link


def _provenance(link: VlaEvalLink) -> dict[str, str]:
    wrist = f", wrist as {WRIST!r}" if wanted(link.hello, "send_wrist_image") else ""
    state = "none" if not wanted(link.hello, "send_state") else STATE_LAYOUT
    if wanted(link.hello, "send_state") and not wanted(link.hello, "quat_no_antipodal"):
        state += ", turned by at most half a turn"
    convention = Convention(f"third person as {FRONT!r}{wrist}, uint8 RGB", state=state)
    return {
        "address": str(link.address),
        "server": f"vla-eval {link.hello.get('harness_version')}",
        "model_server": str(link.hello.get("model_server")),
        **convention.record(),
    }


def _warnings(hello: Mapping[str, Any]) -> tuple[str, ...]:
    told = ["The server takes no keyed noise and no NFE: it draws its own noise, so a repeated episode may differ."]
    if left := unhonoured(hello):
        asked = ", ".join(f"{name}={value!r}" for name, value in sorted(left.items()))
        told.append(f"The server asks its benchmark for {asked[:300]}, which the suite's protocol decides here.")
    return tuple(told)
