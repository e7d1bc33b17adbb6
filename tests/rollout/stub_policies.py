"""Policies in two lines, units of the stub world, and a clock that only moves when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from harness.schedule.keys import episode_key
from harness.schedule.units import EpisodeUnit
from harness.spec.observation import ActionChunks, PolicyInfo


class FunctionPolicy:
    """A policy made of a function of (observation, noise)."""

    def __init__(self, function, **info) -> None:  # noqa: D107
        self.info = PolicyInfo(policy_id="function", **info)
        self.function = function
        self.seen: list = []
        self.ended: list[str] = []

    def act(self, observations, noise, *, nfe=None):
        self.seen += [(seen, None if noise is None else noise[i], nfe) for i, seen in enumerate(observations)]
        return ActionChunks(
            np.stack([self.function(seen, None if noise is None else noise[i]) for i, seen in enumerate(observations)])
        )

    def end_episode(self, episode_key):
        self.ended.append(episode_key)


class ManualClock:
    """Time that passes only in `advance`."""

    def __init__(self) -> None:  # noqa: D107
        self.passed = 0.0

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.passed)

    def seconds(self):
        return self.passed

    def advance(self, seconds):
        self.passed += seconds


def ones(length: int = 1):
    return lambda seen, noise: np.ones((length, 7), dtype=np.float32)


def make_unit(task_id: int = 0, init_state_id: int = 0, nfe: int | None = None) -> EpisodeUnit:
    key = episode_key("ab" * 32, "stub", task_id, init_state_id, 0)
    return EpisodeUnit("function", nfe, "stub", task_id, init_state_id, 0, key, "ab" * 32)
