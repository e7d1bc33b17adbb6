"""Policies with known costs and known faults, importable by the child processes of isolated probes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.errors import PolicyError
from harness.policies.base import SpanTimer, no_span
from harness.spec.observation import ANY_NFE, ActionChunks, Observation, PolicyInfo


class Stopwatch:
    """A clock that only moves when a policy works."""

    def __init__(self) -> None:  # noqa: D107
        self.elapsed = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def seconds(self) -> float:
        return self.elapsed


class Sleepy:
    """Costs 1 ms of preprocess, 2 of vision, 3 of prefix, 4 a denoise step and 1 of postprocess, by the given sleep."""

    COSTS: ClassVar = {"preprocess": 1, "vision": 2, "prefix": 3, "denoise_step": 4, "postprocess": 1}

    def __init__(self, sleep: Callable[[float], None] = time.sleep, **info: object) -> None:  # noqa: D107
        self.span: SpanTimer = no_span
        self.sleep = sleep
        self.batches: list[list[Observation]] = []
        self.noises: list[NDArray[np.float32] | None] = []
        defaults = {
            "policy_id": "sleepy",
            "chunk_length": 2,
            "nfe_options": ANY_NFE,
            "default_nfe": 3,
            "noise_shape": (2, 7),
            "dtype": "float32",
        }
        self.info = PolicyInfo(**{**defaults, **info})  # type: ignore[arg-type]

    def spend(self, component: str) -> None:
        with self.span(component):
            self.sleep(self.COSTS[component] / 1000)

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        self.batches.append(list(observations))
        self.noises.append(noise)
        for component in ("preprocess", "vision", "prefix"):
            self.spend(component)
        for _ in range(nfe or 0):
            self.spend("denoise_step")
        self.spend("postprocess")
        return ActionChunks(np.zeros((len(observations), self.info.chunk_length, 7), dtype=np.float32))


class Faulty(Sleepy):
    """Fails in one way at NFE 2, from its third call on."""

    def __init__(self, fault: str) -> None:  # noqa: D107
        super().__init__()
        self.fault = fault

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        answer = super().act(observations, noise, nfe=nfe)
        if nfe == 2 and len(self.batches) >= 3:
            if self.fault == "exit":
                os._exit(139)
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hang":
                time.sleep(600)
            raise MemoryError("out of memory")
        return answer


def sleepy() -> Sleepy:
    return Sleepy()


def without_nfe() -> Sleepy:
    return Sleepy(nfe_options=(), default_nfe=None, noise_shape=None)


class ThreeCameras(Sleepy):
    """Looks through a camera that LIBERO lacks."""

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        for observation in observations:
            assert len({observation.images[camera].shape for camera in self.info.cameras}) == 1
        return super().act(observations, noise, nfe=nfe)


def looks_through(spec: Any) -> Sleepy:
    """What `python:probe_stubs:looks_through?cameras=N` builds."""
    further = [f"camera{number}" for number in range(3, spec.options["cameras"] + 1)]
    return ThreeCameras(cameras=("agentview", "robot0_eye_in_hand", *further), frame_size=(48, 64))


def looks_through_three() -> Sleepy:
    return ThreeCameras(cameras=("agentview", "robot0_eye_in_hand", "camera3"))


def exits() -> Faulty:
    return Faulty("exit")


def is_killed() -> Faulty:
    return Faulty("kill")


def hangs() -> Faulty:
    return Faulty("hang")


def raises() -> Faulty:
    return Faulty("raise")


def cannot_be_built() -> Sleepy:
    raise PolicyError("no weights at /nowhere; check the path.")


def breaks_while_built() -> Sleepy:
    raise RuntimeError("surprise")


class Uncountable(Sleepy):
    """Refuses to be looked into: raises while its operators are being counted."""

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        from torch.utils._python_dispatch import _get_current_dispatch_mode

        if _get_current_dispatch_mode() is not None:
            raise RuntimeError("no operator may be seen")
        return super().act(observations, noise, nfe=nfe)


def uncountable() -> Sleepy:
    return Uncountable()


def process_start() -> float:
    """When this process was started, seconds since the epoch, to a hundredth (psutil rounds the boot to a second)."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


@dataclass(frozen=True)
class SlowImports:
    """Imports that take 0.3 s, and are written down."""

    folder: Path
    name: str = "stub"

    def __call__(self) -> None:
        began = process_start()
        time.sleep(0.3)
        (self.folder / f"import-{os.getpid()}.json").write_text(json.dumps([began, time.time()]))


@dataclass(frozen=True)
class MakeObserved:
    """Builds a policy whose process is written down when it is built."""

    folder: Path

    def __call__(self) -> Sleepy:
        (self.folder / f"built-{os.getpid()}.json").write_text(json.dumps([time.time()]))
        return Sleepy(policy_id=f"sleepy-{os.getpid()}")
