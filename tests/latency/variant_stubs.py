"""Policies whose options change their answers, importable by the child processes of a probe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from probe_stubs import Sleepy

from harness.errors import UsageError
from harness.policies.registry import PolicyRequest
from harness.spec.observation import ActionChunks, Observation


class Rounding(Sleepy):
    """Answers what it sees, as precisely as `dtype` says; `quantize` makes it answer nonsense."""

    def __init__(self, spec: PolicyRequest) -> None:  # noqa: D107
        super().__init__(lambda seconds: None, policy_id="rounding")
        options = dict(spec.options)
        self.kept = str(options.get("dtype", "float32"))
        self.broken = "quantize" in options
        self.dies_at = options.get("dies_at")
        self.provenance = {"compile": str(options.get("compile", "eager"))}
        if self.kept == "float7":
            raise UsageError("dtype is 'float7'; it is one of float32, float16.")
        if "log" in options:
            with Path(str(options["log"])).open("a") as log:
                log.write(f"{os.getpid()}\n")

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        super().act(observations, noise, nfe=nfe)
        if nfe == self.dies_at:
            os._exit(139)
        seen = np.stack([np.tile(o.state[:7], (2, 1)) for o in observations]) * (nfe or 1)
        assert noise is not None
        answer = (seen + 0.1 * noise).astype(self.kept).astype(np.float32)
        return ActionChunks(-answer if self.broken else answer)
