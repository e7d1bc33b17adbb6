"""Quantised policies: linear layers that hold their weights as int8, with one scale per output channel.

Two schemes. "int8" quantises the weights alone (W8A16): products are computed in the parameter dtype, so that memory
and its traffic shrink and arithmetic does not. "int8-activations" (W8A8) also rounds each token's activations to int8,
by a scale of its own, and multiplies int8 by int8 into int32. Both are symmetric and round to nearest, so equal inputs
give equal answers, and no token's scale depends on its batch. Convolutions, embeddings and norms stay as they are.

Storage and the weights-only product are torchao's. Its product with dynamic activations prints its argument at each
eager call (`torchao.kernel.intmm.safe_int_mm`, 0.18), which stalls a GPU and forbids CUDA graphs; `Int8Products` is
that product without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import PolicyError
from harness.policies.options import Quantize

_STEP = 8
"""CUDA's int8 product takes widths that are multiples of this …"""
_ROWS = 24
"""… and more than 16 rows."""


def quantize(model: nn.Module, scheme: Quantize, used: Callable[[str], bool] = lambda name: True) -> None:
    """Quantise the linear layers of a model in place.

    Args:
        model: In its parameter dtype, on its device; no longer to be trained.
        scheme: "int8" or "int8-activations". A layer whose widths are no multiples of 8 keeps float activations.
        used: Which layers inference reads, by name; others are left.

    Raises:
        PolicyError: torchao is not installed.
    """
    try:
        from torchao.quantization import (  # type: ignore[import-untyped,unused-ignore]
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError as error:
        raise PolicyError(f"quantize={scheme} needs torchao; install it, or remove quantize.") from error

    def chosen(module: Any, name: str) -> bool:
        return isinstance(module, nn.Linear) and used(name)

    quantize_(model, Int8WeightOnlyConfig(), filter_fn=chosen)
    if scheme == "int8":
        return
    for name, module in model.named_modules():
        # Only plain layers: a subclass has a forward pass of its own.
        if type(module) is nn.Linear and used(name) and not (module.in_features % _STEP or module.out_features % _STEP):
            module.__class__ = Int8Products


class Int8Products(nn.Linear):
    """A linear layer with int8 weights that rounds its input to int8 too, token by token."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out) in the dtype of `x`."""
        tokens = x.reshape(-1, x.shape[-1])
        # In float32 whatever the dtype: half precision would round the scale itself.
        scale = tokens.abs().amax(-1, keepdim=True).float().div(127.0).clamp(min=torch.finfo(torch.float32).tiny)
        rounded = (tokens.float() / scale).round_().clamp_(-127, 127).to(torch.int8)
        stored: Any = self.weight
        short = _ROWS - len(rounded) if rounded.is_cuda else 0
        products = torch._int_mm(F.pad(rounded, (0, 0, 0, short)) if short > 0 else rounded, stored.qdata.t())
        answer: Tensor = products[: len(tokens)].float() * scale * stored.scale.float().flatten()
        if self.bias is not None:
            answer = answer + self.bias.float()
        return answer.to(x.dtype).view(*x.shape[:-1], self.out_features)


def weight_bytes(model: nn.Module) -> int:
    """Bytes that the parameters of a model take, int8 weights with their scales as such."""
    return sum(_bytes(parameter) for parameter in model.parameters())


def _bytes(parameter: Any) -> int:
    stored = getattr(parameter, "qdata", None)
    held = (parameter,) if stored is None else (stored, parameter.scale)
    return sum(each.numel() * each.element_size() for each in held)
