"""vla.cpp's messages, built from their published definition, and what its own client puts into them.

Source: VinRobotics/vla.cpp at b18873d, `src/serving/vla.proto`, `src/serving/server.cpp` (what is checked) and
`eval/client/vla_cpp_client.py` (`ARCH_PRESETS`, `_predict_chunk`, `_resize_with_pad`).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.policies.servers.convention import chunk_of
from harness.spec.observation import CAMERAS, Observation

F32_RGB_01 = 2
"""Encoding of an image: float32, RGB, 0 to 1, rows of pixels."""
MAX_NUMBERS = 1_000_000
"""Numbers of an answer that are read."""

_FIELDS: dict[str, list[tuple[str, int, str, bool]]] = {
    "Image": [("encoding", 1, "UINT32", False), ("height", 2, "UINT32", False), ("width", 3, "UINT32", False),
              ("data", 4, "BYTES", False)],
    "PredictRequest": [("images", 1, ".vla.Image", True), ("lang_tokens", 2, "INT32", True),
                       ("state", 3, "FLOAT", True), ("noise", 4, "FLOAT", True), ("request_id", 5, "UINT64", False)],
    "PredictResponse": [("request_id", 1, "UINT64", False), ("action_chunk", 2, "FLOAT", True),
                        ("chunk_size", 3, "UINT32", False), ("action_dim", 4, "UINT32", False),
                        ("latency_ms_total", 5, "FLOAT", False), ("latency_ms_inference", 6, "FLOAT", False),
                        ("error", 7, "STRING", False), ("latency_ms_prefill", 8, "FLOAT", False),
                        ("latency_ms_denoise", 9, "FLOAT", False), ("latency_ms_vision", 10, "FLOAT", False)],
}  # fmt: skip
"""Message → (name, number, type, repeated), of the fields that are used; an enumeration is a number on the wire."""


class Preset(NamedTuple):
    """What an architecture takes."""

    image_size: int
    state_dim: int
    tokens: int
    """Longest prompt."""


PRESETS = {"smolvla": Preset(512, 32, 48), "pi0": Preset(224, 32, 48)}


class VlacppAnswer(NamedTuple):
    """A server's answer."""

    chunk: NDArray[np.float32]
    """Shape (T, 7)."""
    action_dim: int
    """Numbers of an action in the model, of which the first 7 are LIBERO's."""
    total_ms: float
    spans: tuple[tuple[str, float], ...]
    """Component → milliseconds, of those that the server timed."""


@cache
def message_class(name: str) -> Any:
    """The class of a message."""
    file = descriptor_pb2.FileDescriptorProto(name="vla.proto", package="vla", syntax="proto3")
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for field, number, kind, repeated in fields:
            one = described.field.add(name=field, number=number)
            one.label = one.LABEL_REPEATED if repeated else one.LABEL_OPTIONAL
            one.type = one.TYPE_MESSAGE if kind.startswith(".") else getattr(one, f"TYPE_{kind}")
            if kind.startswith("."):
                one.type_name = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"vla.{name}"))


def encode_request(
    seen: Observation, tokens: list[int], preset: Preset, noise: NDArray[np.float32] | None, number: int
) -> bytes:
    """One question.

    Args:
        seen: What the policy may see.
        tokens: The instruction's.
        preset: What the architecture takes.
        noise: Keyed noise, shape (T, D); None: the server draws its own.
        number: Of this request.
    """
    request = message_class("PredictRequest")(request_id=number)
    for camera in CAMERAS:
        frame = fitted(seen.images[camera], preset.image_size)
        request.images.add(
            encoding=F32_RGB_01, height=frame.shape[0], width=frame.shape[1], data=frame.astype("<f4").tobytes()
        )
    request.lang_tokens.extend(tokens)
    state = np.zeros(preset.state_dim, np.float32)
    state[: len(seen.state)] = seen.state
    request.state.extend(state.tolist())
    if noise is not None:
        request.noise.extend(np.asarray(noise, np.float32).ravel().tolist())
    packed: bytes = request.SerializeToString()
    return packed


def decode_answer(data: bytes, number: int, length: int | None, sender: str) -> VlacppAnswer:
    """Read an answer.

    Raises:
        PolicyError: It is none, is another request's, or the server complains.
    """
    answer = message_class("PredictResponse")()
    try:
        answer.ParseFromString(data)
    except DecodeError as error:
        raise PolicyError(f"{sender} answered {len(data)} bytes that are no answer of vla.cpp's server.") from error
    if answer.error:
        raise PolicyError(f"{sender} answered with an error: {answer.error[:600]}")
    if answer.request_id != number:
        raise PolicyError(f"{sender} answered request {answer.request_id} in place of {number}.")
    rows, columns = int(answer.chunk_size), int(answer.action_dim)
    if not rows or rows * columns != len(answer.action_chunk) or len(answer.action_chunk) > MAX_NUMBERS:
        raise PolicyError(
            f"{sender} answered {len(answer.action_chunk)} numbers as a chunk of {rows} actions of {columns}; it is no "
            "server of vla.cpp."
        )
    chunk = np.asarray(answer.action_chunk, np.float32).reshape(rows, columns)
    timed = {"vision": answer.latency_ms_vision, "prefix": answer.latency_ms_prefill}
    spans = tuple((name, float(ms)) for name, ms in timed.items() if ms > 0)
    return VlacppAnswer(chunk_of(chunk, length, sender, padded=True), columns, float(answer.latency_ms_total), spans)


def fitted(frame: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """A frame as vla.cpp's client sends it: 0 to 1, resized (bilinear, without smoothing), black to the left and above.

    Args:
        frame: Shape (H, W, 3).
        size: Pixels a side.

    Returns:
        Shape (size, size, 3).
    """
    from scipy.ndimage import zoom

    values = frame.astype(np.float32) / 255.0
    ratio = max(frame.shape[0] / size, frame.shape[1] / size)
    height, width = int(frame.shape[0] / ratio), int(frame.shape[1] / ratio)
    factors = (height / frame.shape[0], width / frame.shape[1], 1.0)
    small = values if factors == (1.0, 1.0, 1.0) else zoom(values, factors, order=1, mode="nearest", grid_mode=True)
    padded = np.zeros((size, size, 3), np.float32)
    padded[size - height :, size - width :] = small
    return padded
