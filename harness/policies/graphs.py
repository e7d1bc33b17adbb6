"""CUDA graphs of a policy's parts: the same kernels on the same data, without the host's work between them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.errors import PolicyError

_RECORDED = "_recorded_tensors"

WARMUP_CALLS = 2
"""Calls before a capture: libraries create their handles and pick their algorithms in them."""


class Recorder(Protocol):
    """What records work on a device and plays it again."""

    def warm(self, work: Callable[[], Any]) -> None:
        """Run `work` as it will be recorded, without recording it."""
        ...

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Record `work`; returns its answer, whose tensors every replay overwrites, and the replay."""
        ...


class CudaRecorder:
    """Records CUDA graphs that share one memory pool."""

    def __init__(self, device: torch.device) -> None:
        """Record on `device`."""
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def warm(self, work: Callable[[], Any]) -> None:
        """Run on the stream of the capture."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            work()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def record(self, work: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Capture a graph. The answer's memory stays reserved as long as the answer is referred to."""
        graph = torch.cuda.CUDAGraph()
        # Errors of this thread alone: others may ask the driver for clocks and power meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            answer = work()
        return answer, graph.replay


@dataclass(slots=True)
class _Recording:
    slots: list[Tensor | None]
    """Where each tensor argument has to be copied before a replay; None for one that is read where it lies."""
    answers: list[Tensor]
    """What every replay overwrites."""
    layout: _Layout
    """Their arrangement."""
    replay: Callable[[], None]


class GraphPool:
    """Recorded parts of one policy. An answer of one is read in place by the next, so a cache is never copied."""

    def __init__(self, recorder: Recorder) -> None:
        """Record with `recorder`."""
        self.recorder = recorder
        self._owned: dict[int, Tensor] = {}
        self.constants: dict[Any, Tensor] = {}

    def owns(self, tensor: Tensor) -> bool:
        """Whether a tensor is an answer of a recorded part, at an address that every replay writes."""
        return self._owned.get(tensor.data_ptr()) is not None and self._owned[tensor.data_ptr()].shape == tensor.shape

    def adopt(self, tensors: list[Tensor]) -> None:
        """Remember the answers of a recording."""
        self._owned |= {tensor.data_ptr(): tensor for tensor in tensors}

    def graphed(self, part: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Wrap a part: recorded at the first call with each layout of its arguments, replayed at the others."""
        recordings: dict[Any, _Recording] = {}

        def call(*args: Any, **kwargs: Any) -> Any:
            if _get_current_dispatch_mode() is not None:
                # Somebody counts operators, of which a replay shows none.
                return part(*args, **kwargs)
            tensors: list[Tensor] = []
            layout = _flatten((args, kwargs), tensors)
            placed = tuple(tensor.data_ptr() if self.owns(tensor) else None for tensor in tensors)
            shapes = tuple((tuple(tensor.shape), tensor.dtype, tensor.stride()) for tensor in tensors)
            key = (layout.key, shapes, placed)
            if key not in recordings:
                recordings[key] = self._record(part, name, layout, tensors)
            recording = recordings[key]
            for slot, tensor in zip(recording.slots, tensors, strict=True):
                if slot is not None:
                    slot.copy_(tensor)
            recording.replay()
            # New containers: who changes a cache that was handed out must not change the recorded one.
            handed = recording.layout.build(recording.answers)
            _mark_caches(handed)
            return handed

        return call

    def _record(self, part: Callable[..., Any], name: str, layout: _Layout, tensors: list[Tensor]) -> _Recording:
        slots = [None if self.owns(tensor) else tensor.clone() for tensor in tensors]
        fixed = [tensor if slot is None else slot for slot, tensor in zip(slots, tensors, strict=True)]

        def work() -> Any:
            # Containers anew for every call: a part may grow the cache that it is given.
            args, kwargs = layout.build(fixed)
            with KeptConstants(self.constants):
                return part(*args, **kwargs)

        try:
            for _ in range(WARMUP_CALLS):
                self.recorder.warm(work)
            answer, replay = self.recorder.record(work)
        except RuntimeError as error:
            raise PolicyError(
                f"{name} cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); remove graphs=true."
            ) from error
        answers: list[Tensor] = []
        arranged = _flatten(answer, answers)
        self.adopt(answers)
        return _Recording(slots, answers, arranged, replay)


class KeptConstants(TorchFunctionMode):
    """Answer `torch.tensor(numbers)` with one kept tensor per value: a copy from the host cannot be recorded.

    The two numbers of `torch.where(condition, number, number)` are kept in the same way.
    """

    def __init__(self, kept: dict[Any, Tensor]) -> None:
        """Keep the constants in `kept`."""
        super().__init__()
        self._kept = kept

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Divert `torch.tensor` and numbers in `torch.where`; pass everything else on."""
        options = kwargs or {}
        if func is torch.tensor and not isinstance(args[0], Tensor):
            return self._keep(args[0], options)
        if func is torch.where and len(args) == 3 and isinstance(args[1], float) and isinstance(args[2], float):
            device = {"device": args[0].device}
            return func(args[0], self._keep(args[1], device), self._keep(args[2], device))
        return func(*args, **options)

    def _keep(self, value: Any, options: dict[str, Any]) -> Tensor:
        key = (repr(value), *(str(options.get(name)) for name in ("dtype", "device")))
        if key not in self._kept:
            self._kept[key] = torch.tensor(value, **options)
        return self._kept[key]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How tensors are arranged in nested containers."""

    key: Any
    """Equal for equal arrangements."""
    build: Callable[[list[Tensor]], Any]
    """Arrange other tensors in the same way, in new containers."""


def _flatten(value: Any, into: list[Tensor]) -> _Layout:
    """Append the tensors of `value` to `into` and say how they are arranged."""
    if isinstance(value, Tensor):
        place = len(into)
        into.append(value)
        return _Layout("tensor", lambda tensors: tensors[place])
    if isinstance(value, list | tuple):
        parts = [_flatten(item, into) for item in value]
        kind = type(value)
        return _Layout(
            (kind.__name__, *(part.key for part in parts)),
            lambda tensors: kind(part.build(tensors) for part in parts),
        )
    if isinstance(value, dict):
        named = {name: _flatten(item, into) for name, item in value.items()}
        return _Layout(
            ("dict", *((name, part.key) for name, part in named.items())),
            lambda tensors: {name: part.build(tensors) for name, part in named.items()},
        )
    if hasattr(value, "layers") and all(hasattr(layer, "keys") for layer in value.layers):
        return _flatten_cache(value, into)
    return _Layout(repr(value) if isinstance(value, int | float | str | bool | None) else id(value), lambda _: value)


def _flatten_cache(cache: Any, into: list[Tensor]) -> _Layout:
    """As `_flatten`, for a key/value cache of transformers.

    One that a recording handed out, and that nobody changed, is not taken apart: it lies where it was recorded.
    """
    recorded: list[Tensor] | None = getattr(cache, _RECORDED, None)
    if recorded and cache.layers[0].keys is recorded[0] and cache.layers[-1].values is recorded[-1]:
        return _Layout(("recorded", recorded[0].data_ptr(), len(recorded)), lambda _: _copied(cache))
    return _take_apart(cache, into)


def _copied(cache: Any) -> Any:
    inner: list[Tensor] = []
    return _take_apart(cache, inner).build(inner)


def _mark_caches(value: Any) -> None:
    """Remember of every cache in an answer which tensors it was handed out with."""
    if isinstance(value, list | tuple):
        for item in value:
            _mark_caches(item)
    elif hasattr(value, "layers"):
        setattr(value, _RECORDED, [tensor for layer in value.layers for tensor in (layer.keys, layer.values)])


def _take_apart(cache: Any, into: list[Tensor]) -> _Layout:
    contents = _flatten([[layer.keys, layer.values] for layer in cache.layers], into)
    kinds = [copy.copy(layer) for layer in cache.layers]

    def build(tensors: list[Tensor]) -> Any:
        fresh = copy.copy(cache)
        fresh.layers = [copy.copy(kind) for kind in kinds]
        for layer, (keys, values) in zip(fresh.layers, contents.build(tensors), strict=True):
            layer.keys, layer.values = keys, values
        return fresh

    return _Layout(("cache", type(cache).__name__, contents.key), build)
