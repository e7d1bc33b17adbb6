"""The server's answers, which LeRobot pickles: read without running what they name.

An answer is a list of `TimedAction`, each with a tensor. Only what such a list is made of is built, and a tensor's
storage is read by torch's reader of weights, where Python's would run whatever it is told to.
"""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError

MAX_ACTIONS = 10_000
MAX_ANSWER_BYTES = 16 * 2**20


def read_actions(data: bytes, sender: str) -> NDArray[np.float32]:
    """The actions of an answer, shape (T, D).

    Raises:
        PolicyError: It is something else than a list of LeRobot's timed actions.
    """
    if len(data) > MAX_ANSWER_BYTES:
        raise PolicyError(f"{sender} answered {len(data)} bytes; at most {MAX_ANSWER_BYTES} are read.")
    try:
        timed = _Reader(io.BytesIO(data)).load()
        if not isinstance(timed, list) or not 0 < len(timed) <= MAX_ACTIONS:
            raise ValueError(f"a {type(timed).__name__} of {len(timed) if isinstance(timed, list) else 'no'} actions")
        return np.stack([np.asarray(each.action.detach().cpu().numpy(), np.float32) for each in timed])
    except (PolicyError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise PolicyError(
            f"{sender} answered something else than LeRobot's list of timed actions ({type(error).__name__}: {error})."
        ) from error


class _Reader(pickle.Unpickler):
    """An unpickler that knows a handful of names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("lerobot.async_inference.helpers", "TimedAction"):
            from lerobot.async_inference.helpers import TimedAction

            return TimedAction
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            from torch._utils import _rebuild_tensor_v2

            return _rebuild_tensor_v2
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _storage
        raise pickle.UnpicklingError(f"{module}.{name} is not read")


def _storage(data: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
