"""The near end of LeRobot's policy server: its robot client's calls, in step with the simulator.

The server keeps one observation and one policy, and whoever says `Ready` resets it: one client at a time. `must_go` is
set on every observation, without which the server drops those that look like the last one. Its answers are held back to
`inference_latency` (33 ms by default): start it with `--inference_latency=0` to measure. Source: lerobot 0.6.1,
`lerobot/async_inference/policy_server.py` and `robot_client.py`, `lerobot/transport/services.proto`.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from lerobot.async_inference.helpers import RemotePolicyConfig, TimedObservation
from lerobot.transport import services_pb2, services_pb2_grpc
from lerobot.transport.utils import grpc_channel_options, send_bytes_in_chunks
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.policies.lerobot_grpc.checkpoint import STATE_DIM, Declared, declared_by
from harness.policies.lerobot_grpc.options import LerobotGrpcOptions
from harness.policies.lerobot_grpc.pickles import read_actions
from harness.policies.servers.address import Address, LinkLost, ask_first, insist
from harness.policies.servers.convention import Convention, chunk_of
from harness.policies.servers.reconnecting import ReconnectingPolicy
from harness.spec.identity import PolicyIdentity, digest_of
from harness.spec.observation import CAMERAS, Observation, PolicyInfo, RemoteTiming

STATE_NAMES = [f"state_{index}" for index in range(STATE_DIM)]
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
"""Codes after which another attempt may succeed."""


class GrpcLink:
    """One channel, on which the server was told what to load."""

    def __init__(self, address: Address, options: LerobotGrpcOptions, declared: Declared) -> None:
        """Greet the server and have it load the checkpoint.

        Raises:
            LinkLost: Nobody answers.
            PolicyError: The server cannot load it.
        """
        self.address, self.answered = address, 0
        self._options, self._step = options, 0
        self._cameras = dict(zip(CAMERAS, (options.image_key, options.wrist_key), strict=True))
        self._channel = grpc.insecure_channel(address.netloc, grpc_channel_options())
        self._stub = services_pb2_grpc.AsyncInferenceStub(self._channel)
        try:
            self._call(self._stub.Ready, services_pb2.Empty(), min(options.connect_s, 5.0))
            setup = services_pb2.PolicySetup(data=pickle.dumps(self._setup(declared)))
            self._call(self._stub.SendPolicyInstructions, setup, options.answer_s)
        except BaseException:
            self.close()
            raise

    def ask(self, seen: Observation) -> NDArray[np.float32]:
        """Send an observation and fetch its chunk, shape (T, D).

        Raises:
            LinkLost: The connection broke, or the server forgot its policy.
            PolicyError: The server answers nothing, or something else than a chunk.
        """
        raw: dict[str, Any] = dict(zip(STATE_NAMES, map(float, seen.state), strict=True))
        raw |= {self._cameras[camera]: np.ascontiguousarray(frame) for camera, frame in seen.images.items()}
        raw["task"] = seen.instruction
        self._step += 1
        observation = TimedObservation(timestamp=time.time(), timestep=self._step, observation=raw, must_go=True)
        parts = send_bytes_in_chunks(pickle.dumps(observation), services_pb2.Observation)
        self._call(self._stub.SendObservations, parts, self._options.answer_s)
        data = self._call(self._stub.GetActions, services_pb2.Empty(), self._options.answer_s).data
        if not data:
            if self.answered:
                # A server that was started again has no policy and says so by saying nothing.
                raise LinkLost("it answered nothing, as a server does that was started again")
            raise PolicyError(
                f"{self.address} answered nothing: its policy failed on the observation, and only its own log says why "
                "(logs/policy_server_*.log, where it runs)."
            )
        self.answered += 1
        return read_actions(data, str(self.address))

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _setup(self, declared: Declared) -> RemotePolicyConfig:
        features: dict[str, Any] = {
            "observation.state": {"dtype": "float32", "shape": (STATE_DIM,), "names": STATE_NAMES}
        }
        for key in self._cameras.values():
            name = f"observation.images.{key}"
            if not declared.cameras or name in declared.cameras:
                features[name] = {"dtype": "image", "shape": (256, 256, 3), "names": ["height", "width", "channels"]}
        return RemotePolicyConfig(
            declared.policy_type,
            str(self._options.checkpoint),
            features,
            self._options.actions_per_chunk,
            self._options.device,
        )

    def _call(self, method: Any, request: Any, limit_s: float) -> Any:
        try:
            return method(request, timeout=limit_s)
        except grpc.RpcError as error:
            told = str(error.details() or error.code())
            if error.code() in LOST:
                raise LinkLost(told[:300]) from error
            raise PolicyError(f"{self.address} answered with an error: {told[:600]}") from error


def connect(
    address: Address,
    options: LerobotGrpcOptions,
    *,
    label: str,
    seconds: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> LerobotGrpcPolicy:
    """Connect to a server, have it load the checkpoint, and ask it once about an empty scene.

    Args:
        address: The server.
        options: What it is to load, and how to treat it.
        label: Name of the policy in ledgers.
        seconds: Stopwatch.
        sleep: Waits.

    Raises:
        PolicyServerDied: Nobody answers within `options.connect_s`.
        PolicyError: The server cannot load the checkpoint, or it is for another robot.
    """
    declared = declared_by(options, str(address))
    blank = dict.fromkeys(CAMERAS, np.zeros((256, 256, 3), np.uint8))
    scene = Observation("do nothing", np.zeros(STATE_DIM, np.float32), blank)
    link, length = ask_first(
        lambda: insist(lambda: GrpcLink(address, options, declared), options.connect_s, seconds=seconds, sleep=sleep),
        lambda link: len(chunk_of(link.ask(scene), None, str(address))),
        address,
        who="policy server of LeRobot",
        remedy="Start one there, e.g. `python -m lerobot.async_inference.policy_server --host=127.0.0.1 "
        f"--port={address.port}`, or check host and port.",
    )
    stated = {"checkpoint": options.checkpoint, "type": declared.policy_type, "length": length}
    info = PolicyInfo(
        policy_id=label,
        cameras=CAMERAS,
        chunk_length=length,
        replan_interval=min(options.replan or declared.replan or length, length),
        placement="server",
        control_mode=options.control_mode,
        checkpoint=options.checkpoint,
        max_batch=1,
        identity=PolicyIdentity(configuration=digest_of(stated)),
    )
    return LerobotGrpcPolicy(link, declared, info, options, seconds, sleep)


class LerobotGrpcPolicy(ReconnectingPolicy[GrpcLink]):
    """A policy behind LeRobot's policy server."""

    _options: LerobotGrpcOptions

    def __init__(
        self,
        link: GrpcLink,
        declared: Declared,
        info: PolicyInfo,
        options: LerobotGrpcOptions,
        seconds: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Take over an open channel; see `connect`."""
        super().__init__(link, link.address, info, options, stateful=False, seconds=seconds, sleep=sleep)
        self._declared = declared
        sizes = " and ".join(f"{height}×{width}" for height, width in sorted(set(declared.sizes)))
        frames = f"observation.images.{options.image_key} and observation.images.{options.wrist_key}"
        convention = Convention(f"{frames}, uint8 RGB; the server resizes to {sizes or 'its size'} (bilinear)")
        self.provenance = {
            "address": str(link.address),
            "server": "lerobot.async_inference.policy_server",
            "asked": str(options.checkpoint),
            "policy_type": declared.policy_type,
            **convention.record(),
        }
        self.warnings = (
            "The server takes no keyed noise and no NFE: it draws its own noise, so a repeated episode may differ.",
            "Its answers are held back to its --inference_latency, 33 ms unless it was started with another.",
        )

    def _ask(
        self, link: GrpcLink, seen: Observation, noise: NDArray[np.float32] | None, nfe: int | None
    ) -> tuple[NDArray[np.float32], RemoteTiming]:
        del noise, nfe
        began = self._seconds()
        actions = chunk_of(link.ask(seen), self.info.chunk_length, str(self._address))
        return actions, RemoteTiming((self._seconds() - began) * 1e3)

    def _open(self, limit_s: float) -> GrpcLink:
        make = lambda: GrpcLink(self._address, self._options, self._declared)  # noqa: E731
        return insist(make, limit_s, seconds=self._seconds, sleep=self._sleep)
