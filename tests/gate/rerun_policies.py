"""Policies of the stub world whose success depends on checkpoint and runtime in known ways; imported in workers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from harness.spec.observation import ActionChunks, Observation, PolicyInfo
from harness.spec.policy import PolicySpec


class Scripted:
    """Solves an episode, or fails one in five of them by its key."""

    def __init__(self, spec: PolicySpec, *, broken: bool) -> None:
        """Take the options `mode` ("fast" breaks the runtime) and `flaky` (breaks every other call of `act`)."""
        self.info = PolicyInfo(spec.label, chunk_length=40, replan_interval=40)
        self._broken = broken or spec.options.get("mode") == "fast"
        self._flaky = bool(spec.options.get("flaky"))
        self._calls = itertools.count()

    def act(self, observations: Sequence[Observation], noise: object, *, nfe: int | None = None) -> ActionChunks:
        """Answer ones, which solve, or zeros, which do not."""
        del noise, nfe
        fails = [self._fails(seen.episode_key) for seen in observations]
        values = np.where(np.array(fails)[:, None, None], 0.0, 1.0)
        return ActionChunks(np.broadcast_to(values, (len(observations), 40, 7)).astype(np.float32))

    def _fails(self, key: str) -> bool:
        if self._flaky:
            return next(self._calls) % 4 == 0
        return self._broken and int(key[:4], 16) % 5 == 0


def good(spec: PolicySpec) -> Scripted:
    """A checkpoint that solves everything."""
    return Scripted(spec, broken=False)


def bad(spec: PolicySpec) -> Scripted:
    """A checkpoint that fails one episode in five."""
    return Scripted(spec, broken=True)
