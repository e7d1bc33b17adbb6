"""Episode keys and keyed noise: the same in every run, batch, worker, order and resume.

Nothing here knows about policies or checkpoints: that is what makes two checkpoints pair.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray


def episode_key(protocol_sha256: str, suite: str, task_id: int, init_state_id: int, trial: int) -> str:
    """Key of an episode: sha256 over (protocol, suite, task, init state, trial), 64 hex digits.

    The fields are hashed as a JSON array, so no two different tuples can collide by concatenation.
    """
    fields = json.dumps([protocol_sha256, suite, task_id, init_state_id, trial], separators=(",", ":"))
    return hashlib.sha256(fields.encode()).hexdigest()


def noise_generator(key: str, decision: int) -> np.random.Generator:
    """Counter-based generator (Philox) of one decision of one episode.

    The 128-bit Philox key is the head of the episode key; the decision is the top word of the 256-bit counter, so
    streams of two decisions cannot overlap within 2**192 draws.

    Args:
        key: Episode key, 64 hex digits.
        decision: Index of the decision in its episode, from 0.

    Raises:
        ValueError: `decision` is negative.
    """
    if decision < 0:
        raise ValueError(f"decision is {decision}; decisions count from 0")
    counter = np.array([0, 0, 0, decision], dtype=np.uint64)
    words = np.frombuffer(bytes.fromhex(key)[:16], dtype="<u8").astype(np.uint64)
    return np.random.Generator(np.random.Philox(key=words, counter=counter))


def decision_noise(key: str, decision: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal noise of one decision, float32, shape `shape`."""
    return noise_generator(key, decision).standard_normal(shape, dtype=np.float32)
