"""The near end of GR00T's policy server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.policies.gr00t.messages import (
    STATE,
    VIDEO,
    declared,
    decode_actions,
    encode_observation,
    pack,
    unpack,
)
from harness.policies.gr00t.options import Gr00tOptions
from harness.policies.servers.address import Address, ask_first, insist
from harness.policies.servers.convention import Convention, require_agreement
from harness.policies.servers.reconnecting import ReconnectingPolicy
from harness.policies.servers.zmq_link import ZmqLink
from harness.spec.identity import PolicyIdentity, digest_of
from harness.spec.observation import CAMERAS, Observation, PolicyInfo, RemoteTiming

DEFAULT_REPLAN = 8
"""Actions that NVIDIA's LIBERO evaluation executes of a chunk of 16 (`--n_action_steps 8`)."""
PING_S = 2.0
REMEDY = "Serve a checkpoint of a LIBERO embodiment (libero_panda, libero_sim)."


class Gr00tLink(ZmqLink):
    """One socket, and what the server declares."""

    def __init__(self, address: Address, options: Gr00tOptions) -> None:
        """Say hello.

        Raises:
            LinkLost: Nobody answers.
            PolicyError: Whoever answers speaks something else, refuses the token, or serves another robot.
        """
        super().__init__(address)
        self._options, self._token = options, os.environ.get(options.token_env)
        try:
            self.call("ping", None, PING_S)
            self.config = self.call("get_modality_config", None, options.answer_s)
            self.language, found = declared(self.config)
            require_agreement(str(address), found, REMEDY)
        except BaseException:
            self.close()
            raise

    def call(self, endpoint: str, data: Any, limit_s: float) -> Any:
        """Ask an endpoint.

        Raises:
            LinkLost: No answer came in time.
            PolicyError: The server complains, or its answer cannot be read.
        """
        message: dict[str, Any] = {"endpoint": endpoint}
        message |= {} if data is None else {"data": data}
        message |= {"api_token": self._token} if self._token else {}
        return unpack(self.exchange(pack(message), limit_s), sender=str(self.address))

    def decide(self, seen: Observation, length: int | None) -> NDArray[np.float32]:
        """The chunk for an observation, shape (T, 7)."""
        observation = encode_observation(seen, self.language, self._options.layout)
        answer = self.call("get_action", {"observation": observation, "options": None}, self._options.answer_s)
        opens = self._options.gripper == "open01"
        return decode_actions(answer, length, str(self.address), opens_at_one=opens)


def connect(
    address: Address,
    options: Gr00tOptions,
    *,
    label: str,
    seconds: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Gr00tPolicy:
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
    blank = dict.fromkeys(CAMERAS, np.zeros((256, 256, 3), np.uint8))
    scene = Observation("do nothing", np.zeros(8, np.float32), blank)
    link, length = ask_first(
        lambda: insist(lambda: Gr00tLink(address, options), options.connect_s, seconds=seconds, sleep=sleep),
        lambda link: len(link.decide(scene, None)),
        address,
        who="GR00T server",
        remedy=f"Start one there (`gr00t/eval/run_gr00t_server.py --port {address.port}`), or check host and port.",
    )
    info = PolicyInfo(
        policy_id=label,
        cameras=CAMERAS,
        chunk_length=length,
        replan_interval=min(options.replan or DEFAULT_REPLAN, length),
        control_mode=options.control_mode,
        max_batch=1,
        remote=True,
        identity=PolicyIdentity(configuration=digest_of({"modalities": link.config, "length": length})),
    )
    return Gr00tPolicy(link, info, options, seconds, sleep)


class Gr00tPolicy(ReconnectingPolicy[Gr00tLink]):
    """A policy behind GR00T's server, which keeps nothing between decisions."""

    _options: Gr00tOptions

    def __init__(
        self,
        link: Gr00tLink,
        info: PolicyInfo,
        options: Gr00tOptions,
        seconds: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Take over an open socket; see `connect`."""
        super().__init__(link, link.address, info, options, stateful=False, seconds=seconds, sleep=sleep)
        gripper = "1 opens, 0 closes" if options.gripper == "open01" else "-1 opens, +1 closes"
        convention = Convention(
            f"video.{VIDEO[CAMERAS[0]]} and video.{VIDEO[CAMERAS[1]]}, uint8 RGB",
            state=f"{', '.join(STATE)}: position (m), the axis-angle's three numbers (rad), gripper positions (2, m)",
            actions=f"x, y, z, roll, pitch, yaw, gripper ({gripper}), each (1, T, 1)",
        )
        self.provenance = {"address": str(link.address), "server": "GR00T PolicyServer", **convention.record()}
        self.warnings = (
            "The server takes no keyed noise and no NFE: it draws its own noise, so a repeated episode may differ.",
            "This client was tested against recorded messages, not against a running GR00T server.",
        )

    def _ask(
        self, link: Gr00tLink, seen: Observation, noise: NDArray[np.float32] | None, nfe: int | None
    ) -> tuple[NDArray[np.float32], RemoteTiming]:
        del noise, nfe
        began = self._seconds()
        actions = link.decide(seen, self.info.chunk_length)
        return actions, RemoteTiming((self._seconds() - began) * 1e3)

    def _open(self, limit_s: float) -> Gr00tLink:
        make = lambda: Gr00tLink(self._address, self._options)  # noqa: E731
        return insist(make, limit_s, seconds=self._seconds, sleep=self._sleep)
