"""What a model asks of its device, counted operator by operator: FLOPs, bytes and operators of each component."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.flop_counter import sdpa_flop_count as _untyped_sdpa_flops

CACHE_WRITERS = ("vision", "prefix")
"""Components whose lasting results are the cache, if a denoise step reads them."""
CACHE_READER = "denoise_step"
OUTSIDE = ""
"""Name of what runs in no component."""

# What torch calls a dtype → what hardware profiles call it; float32 depends on whether TF32 is allowed.
FORMATS = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float64: "fp64",
    torch.int8: "int8",
    torch.float8_e4m3fn: "fp8",
    torch.float8_e5m2: "fp8",
}
_sdpa_flops: Callable[..., int] = _untyped_sdpa_flops
_weakly: Callable[[Any], Any] = StorageWeakRef
"""A reference that tells when a storage is gone, and keeps its address from being used again until it is asked."""

# Operators that look rows up: they read what they return, not the whole table.
_LOOKUPS = {"embedding", "index", "index_select", "gather"}
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "_reshape_alias"}


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> int:
    """FLOPs of attention kernels that torch's own table leaves out."""
    del rest, options
    return int(_sdpa_flops(query.shape, key.shape, value.shape))


def _int_mm_flops(left: Tensor, right: Tensor, **options: Any) -> int:
    del options
    return 2 * left.shape[0] * left.shape[1] * right.shape[1]


_MORE_FLOPS: dict[str, Callable[..., int]] = {
    "_scaled_dot_product_flash_attention_for_cpu": _attention_flops,
    "_scaled_dot_product_fused_attention_overrideable": _attention_flops,
    "_int_mm": _int_mm_flops,
}


@dataclass(slots=True)
class Tally:
    """What one call of a component did."""

    component: str
    flops_by_format: dict[str, int] = field(default_factory=dict)
    """FLOPs (a multiply-add is two) by number format: bf16, fp16, tf32, fp32, int8, fp8."""
    parameters: dict[int, int] = field(default_factory=dict)
    """Storage of a parameter → bytes of it that were read, at most all of it."""
    cache: dict[int, int] = field(default_factory=dict)
    """Storage that an earlier component left → bytes of it that were read."""
    activation_bytes: int = 0
    """Bytes that matrix products, convolutions and attention read and wrote beside parameters and cache."""
    elementwise_bytes: int = 0
    """Bytes that all other operators read and wrote, each on its own, as in eager execution; a compiler fuses them."""
    operators: int = 0
    """Operators run; views are none."""

    @property
    def flops(self) -> int:
        """FLOPs in all formats."""
        return sum(self.flops_by_format.values())

    @property
    def parameter_bytes(self) -> int:
        """Bytes of distinct parameters read."""
        return sum(self.parameters.values())


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operator that runs while it is active; components are told apart by `span`.

    A parameter counts once a call however often the call reads it, and by the dtype in which it is stored. What
    elementwise operators move is counted apart: a compiler can fuse them into the products around them, so that the
    other bytes are a floor.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler, for a second, to have it leave this class alone: nothing compiles."""
        return False

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        """Count what runs inside.

        Args:
            parameters: Tensors that are weights, buffers included; an `nn.Parameter` is known as one anyway.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Tally] = []
        """One per call of a component, in order; what ran in no component is the first, named `OUTSIDE`."""
        self.cache_bytes: dict[int, int] = {}
        """Storage of the cache → bytes of it that any denoise step read."""
        self._weights = {id_ for tensor in parameters for id_, _ in _storages(tensor)}
        self._open = [Tally(OUTSIDE)]
        self.calls.append(self._open[0])
        self._written: dict[int, Any] = {}

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Count what runs inside as one call of component `name`: a `SpanTimer`."""
        tally = Tally(name)
        self.calls.append(tally)
        self._open.append(tally)
        try:
            yield
        finally:
            self._open.pop()
            if name in CACHE_WRITERS:
                self._written = {key: ref for key, ref in self._written.items() if not ref.expired()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operator, and run it."""
        options = kwargs or {}
        packet = getattr(func, "_overloadpacket", None)
        if packet is None:
            return func(*args, **options)
        formula = flop_registry.get(packet) or _MORE_FLOPS.get(packet.__name__)
        if formula is None:
            # A composite operator is what it is made of.
            with self:
                result = func.decompose(*args, **options)
            if result is not NotImplemented:
                return result
        result = func(*args, **options)
        if not func.is_view and packet.__name__ not in _FREE:
            self._count(packet.__name__, formula, args, options, result)
        return result

    def _count(self, name: str, formula: Callable[..., int] | None, args: Any, options: Any, result: Any) -> None:
        tally = self._open[-1]
        tally.operators += 1
        inputs = [leaf for leaf in tree_leaves((args, options)) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        lookup = sum(map(_bytes, outputs)) if name in _LOOKUPS else None
        for tensor in inputs:
            free = self._read(tally, tensor, lookup)
            if free and formula is not None:
                tally.activation_bytes += _bytes(tensor)
        if formula is not None:
            kind = _format(inputs[0])
            flops = int(formula(*args, **options, out_val=result))
            tally.flops_by_format[kind] = tally.flops_by_format.get(kind, 0) + flops
            tally.activation_bytes += sum(map(_bytes, outputs))
        else:
            read = sum(map(_bytes, inputs)) if lookup is None else lookup
            tally.elementwise_bytes += read + sum(map(_bytes, outputs))
        if tally.component in CACHE_WRITERS:
            for tensor in outputs:
                storage = tensor.untyped_storage()
                self._written[storage._cdata] = _weakly(storage)

    def _read(self, tally: Tally, tensor: Tensor, lookup: int | None) -> bool:
        """Note what an operator reads; True when it is neither parameter nor cache."""
        for key, size in _storages(tensor):
            if isinstance(tensor, nn.Parameter):
                self._weights.add(key)
            read = size if lookup is None else min(size, lookup)
            if key in self._weights:
                _add(tally.parameters, key, read, tensor)
            elif tally.component == CACHE_READER and key in self._written:
                _add(tally.cache, key, read, tensor)
                self.cache_bytes[key] = max(self.cache_bytes.get(key, 0), tally.cache[key])
            else:
                return True
        return False


def _storages(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Storages behind a tensor with the bytes that it shows of each; a quantised tensor is made of several."""
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from _storages(getattr(tensor, name))
        return
    storage = tensor.untyped_storage()
    yield storage._cdata, min(tensor.numel() * tensor.element_size(), storage.nbytes())


def _add(read: dict[int, int], key: int, size: int, tensor: Tensor) -> None:
    whole = size if is_traceable_wrapper_subclass(tensor) else tensor.untyped_storage().nbytes()
    read[key] = min(read.get(key, 0) + size, whole)


def _bytes(tensor: Tensor) -> int:
    return sum(size for _, size in _storages(tensor))


def _format(tensor: Tensor) -> str:
    """Number format in which a product runs."""
    if tensor.dtype == torch.float32:
        return "tf32" if tensor.is_cuda and torch.backends.cuda.matmul.allow_tf32 else "fp32"
    return FORMATS.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
