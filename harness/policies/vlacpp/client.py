"""The near end of vla.cpp's server, to which keyed noise travels."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyServerDied, UsageError
from harness.policies.servers.address import Address, LinkLost, insist
from harness.policies.servers.convention import Convention
from harness.policies.servers.reconnecting import ReconnectingPolicy
from harness.policies.servers.zmq_link import ZmqLink
from harness.policies.vlacpp.messages import PRESETS, Preset, VlacppAnswer, decode_answer, encode_request
from harness.policies.vlacpp.options import VlacppOptions
from harness.spec.identity import PolicyIdentity, digest_of
from harness.spec.observation import CAMERAS, Observation, PolicyInfo, RemoteTiming

DEFAULT_REPLAN = 10
"""Actions of a chunk that are executed; vla.cpp's documentation names 10 for pi0_libero_base."""


class VlacppLink(ZmqLink):
    """One socket."""

    def __init__(self, address: Address, options: VlacppOptions, preset: Preset, tokenizer: Any) -> None:
        """Make the socket; whether somebody listens shows when it is asked."""
        super().__init__(address)
        self._options, self._preset, self._tokenizer = options, preset, tokenizer
        self._number = 0

    def decide(self, seen: Observation, noise: NDArray[np.float32] | None, length: int | None) -> VlacppAnswer:
        """The chunk for an observation.

        Raises:
            LinkLost: No answer came in time.
            PolicyError: The server complains, or its answer is none.
        """
        self._number += 1
        # The newline ends the prompt, as in the checkpoints' training.
        tokens = self._tokenizer.encode(seen.instruction.rstrip("\n") + "\n").ids[: self._preset.tokens]
        question = encode_request(seen, tokens, self._preset, noise, self._number)
        return decode_answer(self.exchange(question, self._options.answer_s), self._number, length, str(self.address))


def read_tokenizer(path: str) -> Any:
    """Load a tokenizer from its file.

    Raises:
        UsageError: The file is not there, or cannot be read.
    """
    from tokenizers import Tokenizer

    file = Path(path) / "tokenizer.json" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise UsageError(f"vlacpp: tokenizer is {path!r}, where no tokenizer.json lies; give the checkpoint's.")
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare exceptions
        raise UsageError(f"vlacpp: {file} cannot be read as a tokenizer ({error}).") from error


def connect(
    address: Address,
    options: VlacppOptions,
    *,
    label: str,
    seconds: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> VlacppPolicy:
    """Connect to a server, and ask it once about an empty scene.

    Args:
        address: The server.
        options: How to treat it.
        label: Name of the policy in ledgers.
        seconds: Stopwatch.
        sleep: Waits.

    Raises:
        UsageError: The tokenizer cannot be read.
        PolicyServerDied: Nobody answers within `options.connect_s`.
        PolicyError: Whoever answers is no such server, or one of another architecture.
    """
    assert options.arch is not None and options.tokenizer is not None  # noqa: S101, PT018 - checked where read
    preset, tokenizer = PRESETS[options.arch], read_tokenizer(options.tokenizer)
    blank = dict.fromkeys(CAMERAS, np.zeros((256, 256, 3), np.uint8))
    scene = Observation("do nothing", np.zeros(8, np.float32), blank)

    def first() -> tuple[VlacppLink, VlacppAnswer]:
        link = VlacppLink(address, options.model_copy(update={"answer_s": options.connect_s}), preset, tokenizer)
        try:
            return link, link.decide(scene, None, None)
        except BaseException:
            link.close()
            raise

    try:
        probe, answer = insist(first, options.connect_s, seconds=seconds, sleep=sleep)
    except LinkLost as error:
        raise PolicyServerDied(
            f"No server of vla.cpp answers at {address} ({error}). Start one there (`vla-server MODEL.gguf`), or check "
            "host and port; a slow model may need a longer ?connect_s=."
        ) from error
    probe.close()
    length = len(answer.chunk)
    stated = {"arch": options.arch, "length": length, "action_dim": answer.action_dim}
    info = PolicyInfo(
        policy_id=label,
        cameras=CAMERAS,
        chunk_length=length,
        replan_interval=min(options.replan or DEFAULT_REPLAN, length),
        noise_shape=(length, answer.action_dim),
        control_mode=options.control_mode,
        max_batch=1,
        remote=True,
        identity=PolicyIdentity(configuration=digest_of(stated)),
    )
    link = VlacppLink(address, options, preset, tokenizer)
    return VlacppPolicy(
        link, lambda: VlacppLink(address, options, preset, tokenizer), preset, info, options, seconds, sleep
    )


class VlacppPolicy(ReconnectingPolicy[VlacppLink]):
    """A policy behind vla.cpp's server, which keeps nothing between decisions."""

    def __init__(
        self,
        link: VlacppLink,
        again: Callable[[], VlacppLink],
        preset: Preset,
        info: PolicyInfo,
        options: VlacppOptions,
        seconds: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Take over an open socket; see `connect`."""
        super().__init__(link, link.address, info, options, stateful=False, seconds=seconds, sleep=sleep)
        self._again = again
        convention = Convention(
            "third person, then wrist, float32 RGB from 0 to 1",
            (preset.image_size, preset.image_size),
            state=f"LIBERO's 8 numbers, then zeros to {preset.state_dim}",
            actions=f"the first 7 of {(info.noise_shape or (0, 0))[1]} numbers, in LIBERO's units",
        )
        self.provenance = {
            "address": str(link.address), "server": "vla.cpp", "arch": str(options.arch), **convention.record()
        }  # fmt: skip
        self.warnings = ("This client was tested against recorded messages, not against a running vla.cpp server.",)

    def _ask(
        self, link: VlacppLink, seen: Observation, noise: NDArray[np.float32] | None, nfe: int | None
    ) -> tuple[NDArray[np.float32], RemoteTiming]:
        del nfe
        began = self._seconds()
        answer = link.decide(seen, noise, self.info.chunk_length)
        round_trip_ms = (self._seconds() - began) * 1e3
        inside = answer.total_ms if 0 < answer.total_ms <= round_trip_ms else None
        timing = RemoteTiming(inside or round_trip_ms, transport_ms=None if inside is None else round_trip_ms - inside)
        record = getattr(self.span, "record", None)
        if record is not None:
            for name, ms in answer.spans:
                record(name, ms)
        return answer.chunk, timing

    def _open(self, limit_s: float) -> VlacppLink:
        del limit_s
        return self._again()
