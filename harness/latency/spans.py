"""Timing of components: the span timer that a probe installs in a policy, and the device synchronisation it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

from harness.policies.base import Policy

Synchronize = Callable[[], None]


class Span(NamedTuple):
    """One timed component."""

    name: str
    start_s: float
    end_s: float

    @property
    def ms(self) -> float:
        """Duration, milliseconds."""
        return (self.end_s - self.start_s) * 1e3


class SpanRecorder:
    """A `SpanTimer` that waits for the device at both ends of every component."""

    def __init__(self, seconds: Callable[[], float], synchronize: Synchronize) -> None:
        """Nothing is recorded yet.

        Args:
            seconds: Stopwatch, seconds (`TimeSource.seconds`).
            synchronize: Waits until the device has done all its work.
        """
        self.spans: list[Span] = []
        self._seconds = seconds
        self._synchronize = synchronize

    def __call__(self, name: str) -> _Timing:
        """Time a component: `with recorder("prefix"): …`."""
        return _Timing(self, name)

    def record(self, name: str, ms: float) -> None:
        """Take a component that was timed elsewhere and has just ended: on a server, or on the way to it."""
        end_s = self._seconds()
        self.spans.append(Span(name, end_s - ms / 1e3, end_s))

    def drain(self) -> list[Span]:
        """Return the spans since the last call, and forget them."""
        spans, self.spans = self.spans, []
        return spans


class _Timing:
    """One entry of a recorder; a class, since a generator-based context manager costs several microseconds more."""

    __slots__ = ("_name", "_recorder", "_start_s")

    def __init__(self, recorder: SpanRecorder, name: str) -> None:
        self._recorder, self._name, self._start_s = recorder, name, 0.0

    def __enter__(self) -> None:
        recorder = self._recorder
        recorder._synchronize()
        self._start_s = recorder._seconds()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        recorder = self._recorder
        recorder._synchronize()
        if kind is None:
            recorder.spans.append(Span(self._name, self._start_s, recorder._seconds()))


def nothing() -> None:
    """Synchronise a host: nothing is pending when a call returns."""


def synchronizer(policy: Policy) -> Synchronize:
    """What waits until everything that `policy` queued is done.

    Call it after the policy's first `act`: only then is CUDA known to be in use. A policy that runs elsewhere (another
    process, another machine) answers with host memory and needs nothing.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return nothing
    device = torch.device(getattr(policy, "device", None) or "cuda")
    if device.type != "cuda":
        return nothing

    def wait() -> None:
        torch.cuda.synchronize(device)

    return wait


class DeviceEvents:
    """A second clock for end-to-end times on CUDA: the device's own, between two events around the call."""

    def __init__(self, torch: Any, device: Any) -> None:
        """Make two events on the device.

        Args:
            torch: The torch module.
            device: The CUDA device.
        """
        self._torch, self._device = torch, device
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    @classmethod
    def of(cls, policy: Policy, synchronize: Synchronize) -> DeviceEvents | None:
        """Events on the policy's device; None on a host."""
        torch: Any = sys.modules.get("torch")
        if synchronize is nothing or torch is None:
            return None
        return cls(torch, torch.device(getattr(policy, "device", None) or "cuda"))

    def start(self) -> None:
        """Mark the start, on the device's current stream."""
        self._start.record(self._torch.cuda.current_stream(self._device))

    def stop(self) -> None:
        """Mark the end."""
        self._end.record(self._torch.cuda.current_stream(self._device))

    def ms(self) -> float:
        """Milliseconds between the marks; the device has been waited for."""
        self._end.synchronize()
        return float(self._start.elapsed_time(self._end))
