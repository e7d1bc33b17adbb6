"""The policy at the near end of the wire: it looks like any other, and says where its time went."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError, PolicyServerLost
from harness.policies.base import no_span
from harness.policies.openpi.dialect import dialect_of
from harness.policies.openpi.link import SHOWN, Link, reach
from harness.policies.openpi.messages import (
    ACTIONS_KEY,
    EXTENSION,
    TIMING_KEY,
    Welcome,
    decode_welcome,
    encode_end,
    encode_request,
)
from harness.policies.openpi.options import OpenpiOptions
from harness.policies.servers.address import Address, LinkLost, ask_first
from harness.policies.servers.convention import chunk_of
from harness.policies.servers.reconnecting import ReconnectingPolicy
from harness.spec.identity import PolicyIdentity, digest_of
from harness.spec.observation import CAMERAS, Observation, PolicyInfo, RemoteTiming

DEFAULT_REPLAN = 5
"""Replan interval for servers that state none. Source: openpi, examples/libero/main.py (`replan_steps`)."""
IDENTITY = ("policy_id", "checkpoint", "chunk_length", "noise_shape", "nfe_options", "cameras")
"""What must not change when a server of this project comes back, besides the parts of its policy's identity."""
IDENTIFYING = frozenset({
    "policy", "policy_name", "policy_id", "policy_type", "model", "model_name", "model_id", "model_path", "config",
    "config_name", "train_config", "checkpoint", "checkpoint_dir", "checkpoint_path", "checkpoint_sha256", "commit",
    "revision", "action_horizon", "action_dim", "chunk_size",
})  # fmt: skip
"""Keys of other servers' metadata that say which policy they serve; the rest (session, up-time) may change."""
logger = logging.getLogger(__name__)


def connect(
    address: Address,
    options: OpenpiOptions,
    *,
    label: str,
    token: str | None,
    seconds: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> OpenPiPolicy:
    """Connect to a server and learn what it serves.

    Args:
        address: The server.
        options: How to treat it.
        label: Name of the policy in ledgers.
        token: Sent along, when there is one.
        seconds: Stopwatch.
        sleep: Waits.

    Raises:
        PolicyServerDied: Nobody answers within `options.connect_s`.
        PolicyError: Whoever answers is no server for this harness or this robot.
    """

    def told(link: Link) -> tuple[Welcome | None, PolicyInfo]:
        welcome = decode_welcome(link.metadata, sender=str(address))
        return welcome, _stated(welcome, options) if welcome else _found_out(link, options)

    link, (welcome, info) = ask_first(
        lambda: reach(address, token, options.connect_s, options.ca, seconds=seconds, sleep=sleep),
        told,
        address,
        who="policy server",
        remedy=f"Start one there, e.g. `harness serve --policy flow --port {address.port}`, or check host and port.",
    )
    return OpenPiPolicy(link, welcome, replace(info, policy_id=label), options, token, seconds, sleep)


def _stated(welcome: Welcome, options: OpenpiOptions) -> PolicyInfo:
    """What a server of this project says, as the near end offers it: one observation at a time, without torch."""
    info = welcome.info
    replan = min(options.replan or info.replan_interval, info.chunk_length)
    return replace(info, replan_interval=replan, placement="worker", max_batch=1, remote=True)


def _found_out(link: Link, options: OpenpiOptions) -> PolicyInfo:
    """What any other openpi server turns out to be, from its metadata and its answer to an empty scene."""
    dialect = dialect_of(link.metadata, options, str(link.address))
    blank = np.zeros((256, 256, 3), np.uint8)
    scene = Observation("do nothing", np.zeros(8, np.float32), dict.fromkeys(CAMERAS, blank))
    answer = link.ask(dialect.encode(scene), options.answer_s)
    length = len(_actions(answer, None, str(link.address), padded=options.padded))
    return PolicyInfo(
        policy_id="",
        cameras=CAMERAS,
        chunk_length=length,
        replan_interval=min(options.replan or DEFAULT_REPLAN, length),
        control_mode=options.control_mode,
        max_batch=1,
        remote=True,
        identity=_stated_identity(link.metadata),
    )


class OpenPiPolicy(ReconnectingPolicy[Link]):
    """A policy behind a websocket."""

    _options: OpenpiOptions

    def __init__(
        self,
        link: Link,
        welcome: Welcome | None,
        info: PolicyInfo,
        options: OpenpiOptions,
        token: str | None,
        seconds: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Take over an open connection; see `connect`."""
        stateful = welcome.stateful if welcome else bool(link.metadata.get("needs_session_id"))
        super().__init__(link, link.address, info, options, stateful=stateful, seconds=seconds, sleep=sleep)
        self._welcome, self._metadata, self._token = welcome, link.metadata, token
        self._requests = 0
        self._warned: set[str] = set()
        self._dialect = dialect_of({} if welcome else link.metadata, options, str(link.address))
        self.provenance = _provenance(link.address, welcome) | self._dialect.convention.record()
        self.warnings = _warnings(welcome)

    def end_episode(self, episode_key: str) -> None:
        """Let a server that keeps state per episode forget one; a lost connection has made it forget already."""
        if self._link is None or self._welcome is None or not self._stateful:
            return
        try:
            self._link.ask(encode_end(episode_key), self._options.answer_s)
        except (LinkLost, PolicyError):
            self._hang_up()

    def _ask(
        self, link: Link, seen: Observation, noise: NDArray[np.float32] | None, nfe: int | None
    ) -> tuple[NDArray[np.float32], RemoteTiming]:
        self._requests += 1
        if self._welcome is None:
            message = self._dialect.encode(seen)
        else:
            spans = self.span is not no_span
            message = encode_request(seen, noise, nfe, number=self._requests, extended=True, spans=spans)
        began = self._seconds()
        answer = link.ask(message, self._options.answer_s)
        round_trip_ms = (self._seconds() - began) * 1e3
        self._require_number(answer)
        actions = _actions(answer, self.info.chunk_length, str(self._address), padded=self._options.padded)
        timing = _timing(answer, round_trip_ms)
        self._report(answer, timing)
        return actions, timing

    def _open(self, limit_s: float) -> Link:
        link = reach(self._address, self._token, limit_s, self._options.ca, seconds=self._seconds, sleep=self._sleep)
        self._require_same(link)
        return link

    def _require_same(self, link: Link) -> None:
        try:
            welcome = decode_welcome(link.metadata, sender=str(self._address))
        except BaseException:
            link.close()
            raise
        before, now = _identity(self._welcome, self._metadata), _identity(welcome, link.metadata)
        changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if self._welcome is None and welcome is None and not changed:
            self._warn_of_changes(link.metadata)
        if changed:
            link.close()
            name = changed[0]
            raise PolicyServerLost(
                f"The server at {self._address} came back with another policy: {name} was {before.get(name)!r}, now it "
                f"is {now.get(name)!r}. Start the one that this run began with, then continue with --resume."
            )

    def _warn_of_changes(self, metadata: Mapping[str, Any]) -> None:
        """Name, once each, what the server says otherwise than before, though not of its policy."""
        before, now = _comparable(self._metadata), _comparable(metadata)
        for name in sorted({*before, *now} - self._warned):
            if before.get(name) != now.get(name):
                self._warned.add(name)
                logger.warning(
                    "%s: its metadata %r changed when it came back; taken for the same policy.", self._address, name
                )

    def _require_number(self, answer: Mapping[str, Any]) -> None:
        number = _mapping(answer.get(EXTENSION)).get("request", self._requests) if self._welcome else self._requests
        if number != self._requests:
            raise PolicyError(f"{self._address} answered request {number} in place of {self._requests}.")

    def _report(self, answer: Mapping[str, Any], timing: RemoteTiming) -> None:
        """Tell a probe what no span here can enclose: the server's components, and the rest of the round trip."""
        record = getattr(self.span, "record", None)
        if record is None or timing.transport_ms is None:
            return
        for name, ms in _mapping(answer.get(EXTENSION)).get("spans") or ():
            record(str(name), float(ms))
        record("transport", timing.transport_ms + timing.queue_ms)


def _actions(
    answer: Mapping[str, Any], length: int | None, sender: str, *, padded: bool = False
) -> NDArray[np.float32]:
    if answer.get("type") == "error":
        raise PolicyError(
            f"{sender} answered with an error in place of an answer: {str(answer.get('message'))[:SHOWN]}"
        )
    if ACTIONS_KEY not in answer:
        raise PolicyError(f"{sender} answered without {ACTIONS_KEY!r}; it sent {', '.join(sorted(map(repr, answer)))}.")
    return chunk_of(answer[ACTIONS_KEY], length, sender, padded=padded)


def _timing(answer: Mapping[str, Any], round_trip_ms: float) -> RemoteTiming:
    """Split a round trip by what the server says; one that says nothing that can be read has taken all of it."""
    said, extra = _mapping(answer.get(TIMING_KEY)), _mapping(answer.get(EXTENSION))
    infer, queue = _duration_ms(said.get("infer_ms")), _duration_ms(said.get("queue_ms")) or 0.0
    if infer is None:
        return RemoteTiming(round_trip_ms)
    size, hardware = extra.get("batch_size"), extra.get("hardware")
    return RemoteTiming(
        infer_ms=infer,
        queue_ms=queue,
        transport_ms=max(round_trip_ms - infer - queue, 0.0),
        batch_size=size if isinstance(size, int) and size >= 1 else 1,
        hardware=hardware if isinstance(hardware, str) else None,
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    """What a server put where a map is expected; other servers use the same keys for something else."""
    return value if isinstance(value, Mapping) else {}


def _duration_ms(value: Any) -> float | None:
    """A time in milliseconds; None for what is none (text, NaN, negative)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if 0 <= value < float("inf") else None


def _identity(welcome: Welcome | None, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What says which policy is served, in values that can be compared."""
    if welcome is None:
        return {name: value for name, value in _comparable(metadata).items() if name in IDENTIFYING}
    info = welcome.info
    return {name: getattr(info, name) for name in IDENTITY} | info.stated_identity.record()


def _comparable(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as text: arrays by their values, NaN equal to itself."""
    return {str(name): json.dumps(_plain(value), sort_keys=True, default=str) for name, value in metadata.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _stated_identity(metadata: Mapping[str, Any]) -> PolicyIdentity | None:
    """The identity of a policy behind a server of another project: what its metadata says of it; None: nothing."""
    stated = _identity(None, metadata)
    return PolicyIdentity(configuration=digest_of(stated)) if stated else None


def _provenance(address: Address, welcome: Welcome | None) -> dict[str, str]:
    facts: dict[str, Any] = {"address": str(address), "server": "harness serve" if welcome else "openpi protocol"}
    if welcome is not None:
        facts["served_policy"] = welcome.info.policy_id
        facts |= welcome.record.get("provenance") or {}
    return {name: str(value) for name, value in facts.items()}


def _warnings(welcome: Welcome | None) -> tuple[str, ...]:
    if welcome is None:
        return (
            "The server takes no keyed noise and no NFE: it draws its own noise, so a repeated episode may differ.",
        )
    return tuple(map(str, welcome.record.get("warnings") or ()))
