"""What client and server say: openpi's LIBERO observation, and one extra key that this project's own ends understand.

openpi's keys are those of its `examples/libero/main.py`. Under the key `harness`, which openpi ignores, go the episode,
the decision, its keyed noise and the NFE; a server that states in its metadata that it understands them uses them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.schedule.keys import decision_noise
from harness.spec.identity import PARTS, PolicyIdentity
from harness.spec.observation import Observation, PolicyInfo

PROTOCOL_VERSION = 1
"""Version of what stands under `EXTENSION`."""
EXTENSION = "harness"
IMAGE_KEYS: Mapping[str, str] = {
    "agentview": "observation/image",
    "robot0_eye_in_hand": "observation/wrist_image",
}
"""LIBERO camera → openpi's key."""
STATE_KEY, PROMPT_KEY = "observation/state", "prompt"
ACTIONS_KEY, TIMING_KEY = "actions", "server_timing"
STATE_DIM = 8
MAX_NFE = 200
"""Most function evaluations that a client may ask a server for: everybody else waits for them."""
MAX_CHUNK, MAX_NOISE, MAX_HISTORY = 10_000, 1_000_000, 64
"""Most actions of an answer, numbers of a decision's noise, and observations of a question, that a server may ask for
by what it says of its policy."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a server says of itself when a client connects."""

    info: PolicyInfo
    stateful: bool = False
    """Whether the policy keeps state per episode, so that an episode cannot go on after its server was lost."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the policy's origin: `provenance` and `warnings`."""


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """One question, as a server reads it."""

    observation: Observation
    noise: NDArray[np.float32] | None
    nfe: int | None
    number: int | None = None
    """The client's number of this request, to be repeated in the answer; None from clients that are not ours."""
    spans: bool = False
    """Whether the client wants to know how long each component took, at the price of being decided for alone."""


def encode_welcome(welcome: Welcome) -> dict[str, Any]:
    """A server's first message."""
    return {
        EXTENSION: {
            "protocol": PROTOCOL_VERSION,
            "info": asdict(welcome.info),
            "stateful": welcome.stateful,
            "record": dict(welcome.record),
        }
    }


def decode_welcome(message: Mapping[str, Any], *, sender: str) -> Welcome | None:
    """Read a server's first message; None: it speaks plain openpi.

    Raises:
        PolicyError: Another version of the extension, or a description that cannot be read.
    """
    said = message.get(EXTENSION)
    if not isinstance(said, Mapping):
        # Another project's server may use the key for something of its own.
        return None
    _require_version(said, sender)
    try:
        known = {entry.name for entry in fields(PolicyInfo)}
        info = {name: _tuples(value) for name, value in said["info"].items() if name in known}
        # The wire carries no old chunk, so that whoever serves it cannot continue one.
        info["rtc"] = False
        if info.get("identity") is not None:
            info["identity"] = PolicyIdentity(**{part: info["identity"].get(part) for part in PARTS})
        welcome = Welcome(PolicyInfo(**info), bool(said["stateful"]), dict(said["record"]))
        _require_bounded(welcome.info)
        return welcome
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PolicyError(f"{sender} describes its policy in a way that cannot be read ({error!r}).") from error


def _require_bounded(info: PolicyInfo) -> None:
    """Refuse a description by which the client would draw, send or wait for more than any policy needs."""
    lists = (info.cameras, info.nfe_options, () if info.noise_shape is None else info.noise_shape)
    if any(not isinstance(one, tuple) for one in lists):
        raise ValueError("cameras, NFE and the shape of its noise have to be lists")
    numbers = [
        info.chunk_length,
        info.replan_interval,
        info.observation_steps,
        info.max_batch,
        *(info.noise_shape or ()),
    ]
    if any(not isinstance(one, int) or isinstance(one, bool) or one < 1 for one in numbers):
        raise ValueError(f"lengths have to be whole numbers from 1, not {numbers}")
    asked = (info.chunk_length, math.prod(info.noise_shape or ()), info.observation_steps)
    if any(one > most for one, most in zip(asked, (MAX_CHUNK, MAX_NOISE, MAX_HISTORY), strict=True)):
        raise ValueError(f"chunk, noise and history of {asked} numbers; at most {(MAX_CHUNK, MAX_NOISE, MAX_HISTORY)}")
    unknown = [camera for camera in info.cameras if camera not in IMAGE_KEYS]
    if unknown or not isinstance(info.policy_id, str):
        raise ValueError(f"cameras {unknown} are not LIBERO's" if unknown else "its name is no text")
    if any(not isinstance(nfe, int) for nfe in (*info.nfe_options, info.default_nfe or 0)):
        raise ValueError(f"NFE have to be whole numbers, not {info.nfe_options}")


def encode_request(
    observation: Observation,
    noise: NDArray[np.float32] | None,
    nfe: int | None,
    *,
    number: int,
    extended: bool,
    spans: bool = False,
) -> dict[str, Any]:
    """One question.

    Args:
        observation: What the policy may see.
        noise: Keyed noise of the decision, shape `info.noise_shape`.
        nfe: Number of function evaluations.
        number: Number of this request on its connection.
        extended: Whether the server understands `EXTENSION`.
        spans: Whether to ask for the times of the components.
    """
    message = _encode_moment(observation)
    if extended:
        message[EXTENSION] = {
            "protocol": PROTOCOL_VERSION,
            "request": number,
            "episode": observation.episode_key,
            "decision": observation.decision,
            "nfe": nfe,
            "spans": spans,
            "noise": noise,
            "privileged": dict(observation.privileged),
            "history": [_encode_moment(moment) for moment in observation.history],
        }
    return message


def decode_request(message: Mapping[str, Any], info: PolicyInfo, *, connection: str, count: int) -> DecisionRequest:
    """Read a question.

    Without the extension the noise is keyed by the observation itself: the same question gets the same answer, on any
    connection and in any order.

    Args:
        message: What the client sent.
        info: The policy that is served.
        connection: Stands for the episode, when the client names none.
        count: Questions before this one on the connection; stands for the decision likewise.

    Raises:
        PolicyError: A key is missing, or a value of another shape; names it.
    """
    said = message.get(EXTENSION)
    if said is None:
        observation = _decode_moment(message, info, episode=connection, decision=count)
        noise = None
        if info.noise_shape is not None:
            noise = decision_noise(_digest(observation), 0, info.noise_shape)
        return DecisionRequest(observation, noise, None)
    _require_version(said, "The client")
    try:
        history = tuple(_decode_moment(moment, info, episode="", decision=0) for moment in said["history"])
        observation = _decode_moment(
            message, info, episode=str(said["episode"]), decision=int(said["decision"]), history=history,
            privileged=said["privileged"],
        )  # fmt: skip
        noise = _noise(said["noise"], info)
        return DecisionRequest(
            observation, noise, _offered(said["nfe"], info), int(said["request"]), bool(said.get("spans"))
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise PolicyError(f"The client's key {EXTENSION!r} cannot be read ({error!r}).") from error


def _offered(nfe: int | None, info: PolicyInfo) -> int | None:
    """The NFE that a client asks for, if the policy offers it and others can wait for it."""
    if nfe is None:
        return None
    if nfe > MAX_NFE:
        raise PolicyError(
            f"A server computes at most {MAX_NFE} function evaluations for a decision; {nfe} were asked for."
        )
    return info.resolve_nfe(int(nfe))


def encode_end(episode_key: str) -> dict[str, Any]:
    """Word that an episode has ended, for servers that keep state per episode; it is answered, so that none is lost."""
    return {EXTENSION: {"protocol": PROTOCOL_VERSION, "end_episode": episode_key}}


def ended_episode(message: Mapping[str, Any]) -> str | None:
    """The episode that a message says has ended; None: the message is a question."""
    said = message.get(EXTENSION)
    ended = said.get("end_episode") if isinstance(said, Mapping) else None
    return None if ended is None else str(ended)


def _encode_moment(observation: Observation) -> dict[str, Any]:
    return {
        **{IMAGE_KEYS[camera]: np.ascontiguousarray(frame) for camera, frame in observation.images.items()},
        STATE_KEY: observation.state,
        PROMPT_KEY: observation.instruction,
    }


def _decode_moment(
    message: Mapping[str, Any],
    info: PolicyInfo,
    *,
    episode: str,
    decision: int,
    history: tuple[Observation, ...] = (),
    privileged: Mapping[str, Any] | None = None,
) -> Observation:
    wanted = [IMAGE_KEYS[camera] for camera in info.cameras] + [STATE_KEY, PROMPT_KEY]
    missing = [key for key in wanted if key not in message]
    if missing:
        raise PolicyError(
            f"The observation lacks {', '.join(map(repr, missing))}, which {info.policy_id} reads; it has "
            f"{', '.join(sorted(map(repr, message)))}."
        )
    state = _array(message[STATE_KEY], STATE_KEY)
    if state.shape != (STATE_DIM,) or state.dtype.kind not in "iuf":
        raise PolicyError(
            f"{STATE_KEY!r} has shape {state.shape} and dtype {state.dtype}, not LIBERO's ({STATE_DIM},) numbers: "
            "end-effector position, axis-angle, gripper."
        )
    if not np.isfinite(state).all():
        raise PolicyError(f"{STATE_KEY!r} holds NaN or infinite numbers; send the robot's state.")
    return Observation(
        instruction=_instruction(message[PROMPT_KEY]),
        state=state.astype(np.float32),
        images={camera: _frame(message[IMAGE_KEYS[camera]], IMAGE_KEYS[camera]) for camera in info.cameras},
        privileged={name: np.asarray(pose, np.float64) for name, pose in (privileged or {}).items()},
        episode_key=episode,
        decision=decision,
        history=history,
    )


def _instruction(value: Any) -> str:
    """A text, however it is wrapped: bytes, or an array or list of one."""
    given = value
    while True:
        if isinstance(value, np.ndarray | np.generic) and not isinstance(value, str | bytes):
            value = value.tolist()
        elif isinstance(value, list | tuple) and len(value) == 1:
            (value,) = value
        else:
            break
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise PolicyError(f"{PROMPT_KEY!r} holds bytes that are no UTF-8 ({error}); send text.") from error
    if not isinstance(value, str):
        raise PolicyError(f"{PROMPT_KEY!r} is {given!r}, which is no instruction; send one text.")
    return str(value)


def _array(value: Any, key: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise PolicyError(f"{key!r} is no array ({error}).") from error


def _frame(value: Any, key: str) -> NDArray[np.uint8]:
    frame = _array(value, key)
    if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size or frame.dtype != np.uint8:
        raise PolicyError(f"{key!r} has shape {frame.shape} and dtype {frame.dtype}; send (height, width, 3) uint8.")
    return frame


def _noise(value: Any, info: PolicyInfo) -> NDArray[np.float32] | None:
    shape = None if value is None else np.shape(value)
    if shape != info.noise_shape:
        raise PolicyError(f"The noise has shape {shape}; {info.policy_id} takes {info.noise_shape}.")
    return None if value is None else np.asarray(value, np.float32)


def _digest(observation: Observation) -> str:
    """Digest of everything in an observation that a policy reads, 64 hex digits."""
    digest = hashlib.sha256(observation.instruction.encode())
    digest.update(observation.state.tobytes())
    for camera in sorted(observation.images):
        digest.update(observation.images[camera].tobytes())
    return digest.hexdigest()


def _require_version(said: Any, sender: str) -> None:
    version = said.get("protocol") if isinstance(said, Mapping) else None
    if version != PROTOCOL_VERSION:
        raise PolicyError(
            f"{sender} speaks version {version!r} of the harness's protocol, this end version {PROTOCOL_VERSION}; "
            "install the same vla-harness at both ends."
        )


def _tuples(value: Any) -> Any:
    """Msgpack knows lists only; every sequence of a `PolicyInfo` is a tuple."""
    return tuple(value) if isinstance(value, list) else value
