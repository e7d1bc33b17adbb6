"""Random draws inside a sampler, answered from keyed noise: the same for an episode in any batch, order or process."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode


def generators(noise: NDArray[np.float32]) -> list[torch.Generator]:
    """One CPU generator per row of `noise`, shape (B, …), seeded by the row's bytes and nothing else."""
    rows = np.ascontiguousarray(noise, dtype="<f4")
    digests = (hashlib.sha256(row.tobytes()).digest() for row in rows)
    return [torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1) for digest in digests]


class KeyedDraws(TorchFunctionMode):
    """Answer `torch.randn`, `randn_like`, `rand`, `rand_like` and `normal(mean, std, size)` from per-sample generators.

    Samplers that take no `noise` argument, and schedulers that add noise at every step, draw from the global generator;
    what an episode gets would then depend on its batch and on every earlier call. Within this mode a draw of leading
    dimension B is made row by row, each row from its own generator, on the CPU, and moved to the device asked for.
    """

    def __init__(self, rows: Sequence[torch.Generator]) -> None:
        """Answer draws from `rows`, one generator per sample of the batch."""
        super().__init__()
        self.rows = list(rows)
        self.foreign: list[tuple[int, ...]] = []
        """Shapes of draws whose leading dimension is not the batch; they were made from the first row's generator."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Divert the draws; pass everything else on."""
        options = dict(kwargs or {})
        if func in (torch.randn, torch.rand) and options.get("generator") is None:
            return self._draw(func is torch.randn, _size(args, options), options)
        if func in (torch.randn_like, torch.rand_like):
            options.setdefault("dtype", args[0].dtype)
            options.setdefault("device", args[0].device)
            return self._draw(func is torch.randn_like, tuple(args[0].shape), options)
        if func is torch.normal and "size" in options and options.get("generator") is None:
            mean, std = options.pop("mean", 0.0), options.pop("std", 1.0)
            return self._draw(True, tuple(options.pop("size")), options) * std + mean
        return func(*args, **(kwargs or {}))

    def _draw(self, normal: bool, size: tuple[int, ...], options: dict[str, Any]) -> Tensor:
        draw = torch.randn if normal else torch.rand
        if size[:1] == (len(self.rows),):
            values = torch.cat([draw((1, *size[1:]), generator=row) for row in self.rows])
        else:
            self.foreign.append(size)
            values = draw(size, generator=self.rows[0])
        return values.to(device=options.get("device"), dtype=options.get("dtype") or torch.get_default_dtype())


def _size(args: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, ...]:
    given = options.get("size", args)
    return tuple(given[0]) if len(given) == 1 and not isinstance(given[0], int) else tuple(given)
