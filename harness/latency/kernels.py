"""What a GPU did during a decision: kernels, and how long it was busy, by component, from the profiler."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from harness.latency.spans import Synchronize

MARK = "harness::"
"""Start of the profiler annotations around components."""


class KernelTime(NamedTuple):
    """One stretch of time, nanoseconds of the profiler's clock."""

    name: str
    start: int
    end: int


class Activity(NamedTuple):
    """What the device did within one call of a component."""

    component: str
    kernels: int
    """Kernels, copies and fills that started within the call."""
    busy_ms: float
    """Time in which at least one of them ran."""


def attribute(spans: Sequence[KernelTime], work: Sequence[KernelTime]) -> list[Activity]:
    """Give the device's work to the component during which it ran.

    Components wait for the device at both ends, so that no work crosses a border.

    Args:
        spans: Calls of components; they may nest (`e2e` around all).
        work: Kernels, copies and fills.
    """
    ordered = sorted(work, key=lambda interval: interval.start)
    found = []
    for span in spans:
        inside = [item for item in ordered if span.start <= item.start < span.end]
        found.append(Activity(span.name, len(inside), _union_ns(inside) / 1e6))
    return found


def _union_ns(ordered: Sequence[KernelTime]) -> int:
    """Length of the union of intervals in order of their start."""
    total, end = 0, 0
    for item in ordered:
        total += max(0, item.end - max(item.start, end))
        end = max(end, item.end)
    return total


def profile_cuda(run: Callable[[Callable[[str], Any]], None], synchronize: Synchronize) -> list[Activity]:
    """Profile one decision.

    Args:
        run: Runs the decision with the given span timer.
        synchronize: Waits for the device.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    @contextmanager
    def span(name: str) -> Iterator[None]:
        synchronize()
        with record_function(MARK + name):
            yield
            synchronize()

    with warnings.catch_warnings():
        # One decision is profiled and nothing of it is timed by the host: torch's advice on warm-up and cycles, which
        # differs from release to release, is nothing that a user could follow.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.(autograd\.)?profiler")
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler, span("e2e"):
            run(span)
    # The raw events: torch's own summary of some 10,000 kernels takes minutes of Python.
    events = profiler.profiler.kineto_results.events()
    spans = [_interval(e, len(MARK)) for e in events if e.name().startswith(MARK) and not _on_device(e)]
    work = [_interval(e) for e in events if _on_device(e) and not _is_annotation(e)]
    return attribute(spans, work)


def _interval(event: Any, cut: int = 0) -> KernelTime:
    start = int(event.start_ns())
    return KernelTime(event.name()[cut:], start, start + int(event.duration_ns()))


def _on_device(event: Any) -> bool:
    from torch._C._autograd import DeviceType

    return bool(event.device_type() == DeviceType.CUDA)


def _is_annotation(event: Any) -> bool:
    return bool(event.is_user_annotation()) or event.name().startswith(MARK)
