"""Policies to serve: in two lines, with noise and a denoising loop, some of which misbehave on purpose."""

from __future__ import annotations

import time

import numpy as np

from harness.spec.observation import CAMERAS, ActionChunks, PolicyInfo
from harness.spec.policy import PolicySpec

SPEC = PolicySpec(kind="python", path="served_policies:Served", label="served")


class Served:
    """Answers a function of the noise and the NFE alone, so that whoever shares the batch must not matter."""

    info = PolicyInfo(
        "served",
        placement="server",
        nfe_options=(1, 4),
        default_nfe=4,
        noise_shape=(1, 7),
        max_batch=8,
        checkpoint="c@1",
    )

    def __init__(self, spec=SPEC) -> None:  # noqa: D107
        self.spec = spec
        self.seen: list = []

    def act(self, observations, noise, *, nfe=None):
        self.seen += observations
        for seen in observations:
            self.meet(seen)
        time.sleep(0.002)
        return ActionChunks(np.clip(noise * (nfe or 4), -1, 1).astype(np.float32))

    def meet(self, seen) -> None:
        """Do what this policy is here for."""


class RaisesForTaskOne(Served):
    """Raises for some observations, whatever batch they are in."""

    def meet(self, seen):
        if "task 1" in seen.instruction:
            raise ValueError("no such bowl")


class Warns(Served):
    """Knows where it came from."""

    def __init__(self, spec=SPEC) -> None:  # noqa: D107
        super().__init__(spec)
        self.provenance = {"revision": "abc"}
        self.warnings = ("The weights are random.",)


class Looks(Served):
    """Reads both cameras and answers their mean brightness and the state, so that what arrived can be read off."""

    info = PolicyInfo("looks", cameras=CAMERAS, chunk_length=2, replan_interval=2)

    def act(self, observations, noise, *, nfe=None):
        self.seen += observations
        for seen in observations:
            self.meet(seen)
        rows = [
            [
                *(seen.images[camera].mean() / 255 for camera in CAMERAS),
                float(seen.state[0]),
                len(seen.instruction) / 100,
            ]
            for seen in observations
        ]
        first = np.pad(np.array(rows, np.float32), ((0, 0), (0, 3)))
        return ActionChunks(np.stack([first, -first], axis=1))
