"""The network of an architecture file: its layers, widths and tokens as written, wired as a Pi0.5 is.

The file says what work a decision is, and not every detail of how: rotary embeddings and masks are left out, and text
attends unmasked. FLOPs and parameter bytes are the file's; kernels are fewer than an eager Pi0.5's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import SpecError
from harness.policies.quantize import quantize
from harness.spec.architecture import Architecture, CountedComponent, Dense, Precision, Resident, Tower

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.bfloat16,
}
"""Format of products → dtype of activations; integers are products of layers whose activations are bfloat16."""

Caches = tuple[list[Tensor], list[Tensor]]
"""Keys and values by layer, (B, kv heads, tokens, head)."""


class Layer(nn.Module):
    """One transformer layer as a `Tower` describes it."""

    def __init__(self, tower: Tower) -> None:
        """Build the maps and norms."""
        super().__init__()
        self.tower = tower
        self.shared = tower.queries // tower.keys
        linear = {"bias": tower.bias}
        self.query = nn.Linear(tower.width, tower.queries, **linear)
        self.key = nn.Linear(tower.width, tower.keys, **linear)
        self.value = nn.Linear(tower.width, tower.keys, **linear)
        self.out = nn.Linear(tower.queries, tower.width, **linear)
        self.gate = nn.Linear(tower.width, tower.mlp, **linear) if tower.gated else None
        self.up = nn.Linear(tower.width, tower.mlp, **linear)
        self.down = nn.Linear(tower.mlp, tower.width, **linear)
        self.norm1, self.norm2 = _norm(tower), _norm(tower)

    def forward(
        self, x: Tensor, context: tuple[Tensor, Tensor] | None, modulation: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, n, width) to (the same shape, keys, values); `context` is what its tokens also attend to."""
        normed = _modulated(self.norm1(x), modulation)
        query, key, value = (self._split(part(normed)) for part in (self.query, self.key, self.value))
        seen = (key, value) if context is None else (torch.cat([context[0], key], 2), torch.cat([context[1], value], 2))
        keys, values = (part[:, :, None].expand(-1, -1, self.shared, -1, -1).flatten(1, 2) for part in seen)
        mixed = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        normed = _modulated(self.norm2(x), modulation)
        hidden = F.gelu(self.up(normed) if self.gate is None else self.gate(normed), approximate="tanh")
        return x + self.down(hidden if self.gate is None else hidden * self.up(normed)), key, value

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.tower.head).transpose(1, 2)


class Stack(nn.Module):
    """A tower: dense maps into its width, layers, a norm, dense maps out of it; and maps of the time beside them."""

    def __init__(self, tower: Tower, precision: Precision) -> None:
        """Build the stack.

        Args:
            tower: What to build.
            precision: Of the architecture; the tower's own counts first.

        Raises:
            SpecError: Dense maps that cannot be wired, or a format that nothing here computes in.
        """
        super().__init__()
        self.tower = tower
        self.precision = _computable(tower.precision or precision, tower.name)
        # Cast and quantised one by one, so that no more than a layer is ever held in float32.
        self.layers = nn.ModuleList(_cast(Layer(tower), self.precision) for _ in range(tower.layers))
        self.norm = _cast(_norm(tower), self.precision)
        sequence = [dense for dense in tower.dense if dense.tokens > 1]
        widened = max((n for n, dense in enumerate(sequence) if dense.outputs == tower.width), default=-1)
        self.into = self._maps(sequence[: widened + 1])
        self.out_of = self._maps(sequence[widened + 1 :])
        self.time = self._maps([dense for dense in tower.dense if dense.tokens == 1])

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations in its layers."""
        return DTYPES[self.precision.compute]

    @property
    def inputs(self) -> int:
        """Width of a token that goes in."""
        return _inputs(self.into[0]) if len(self.into) else self.tower.width

    @property
    def outputs(self) -> int:
        """Width of a token that comes out."""
        return _outputs(self.out_of[-1]) if len(self.out_of) else self.tower.width

    def forward(self, x: Tensor, time: Tensor | None = None, caches: Caches | None = None) -> tuple[Tensor, Caches]:
        """Map (B, n, inputs) to ((B, n, outputs), keys and values by layer); `time` is (B,) in [0, 1]."""
        moments = None if time is None else _embed_time(time, self.tower.width)
        modulation = [] if moments is None else self._modulate(moments)
        for dense in self.into:
            if x.shape[-1] != _inputs(dense) and moments is not None:
                x = torch.cat([x, moments[:, None].expand(-1, x.shape[1], -1).to(x.dtype)], -1)
            x = F.silu(_apply(dense, x)) if dense is not self.into[-1] else _apply(dense, x)
        x = x.to(self.dtype)
        keys, values = [], []
        for number, layer in enumerate(self.layers):
            context = None if caches is None else (caches[0][number], caches[1][number])
            x, key, value = layer(x, context, modulation)
            keys.append(key)
            values.append(value)
        x = self.norm(x)
        for dense in self.out_of:
            x = _apply(dense, x)
        return x, (keys, values)

    def _modulate(self, moments: Tensor) -> list[Tensor]:
        found = []
        for dense in self.time:
            if _outputs(dense) == _inputs(dense):
                moments = F.silu(_apply(dense, moments))
            else:
                found.append(_apply(dense, moments)[:, None, : self.tower.width].to(self.dtype))
        return found

    def _maps(self, found: list[Dense]) -> nn.ModuleList:
        made = nn.ModuleList()
        for dense in found:
            precision = _computable(dense.precision or self.precision, dense.name)
            made.extend(_cast(nn.Linear(dense.inputs, dense.outputs), precision) for _ in range(dense.count))
        return made


class ArchNetwork(nn.Module):
    """Vision, prefix and expert of an architecture, with its embedding tables."""

    def __init__(self, architecture: Architecture) -> None:
        """Build everything on the default device.

        Raises:
            SpecError: Towers that cannot be wired into a decision.
        """
        super().__init__()
        self.vision = Stack(_only(architecture, "vision"), architecture.precision)
        self.prefix = Stack(_only(architecture, "prefix"), architecture.precision)
        self.expert = Stack(_only(architecture, "denoise_step"), architecture.precision)
        vision, prefix, expert = self.vision.tower, self.prefix.tower, self.expert.tower
        self.text_tokens = prefix.tokens - vision.tokens * vision.sequences
        cache = (prefix.layers, prefix.keys, prefix.head, prefix.tokens)
        read = (expert.layers, expert.keys, expert.head, expert.context)
        for wrong, said in (
            (self.vision.outputs != self.prefix.inputs, f"{vision.name} gives tokens of width {self.vision.outputs}"),
            (self.text_tokens < 1, f"{vision.name} fills all {prefix.tokens} tokens and leaves none for the text"),
            (cache != read, f"{expert.name} reads a cache of (layers, width, head, tokens) {read}, not {cache}"),
            (self.expert.inputs != self.expert.outputs, f"{expert.name} maps {self.expert.inputs} to another width"),
        ):
            if wrong:
                raise SpecError(
                    f"Architecture {architecture.name!r} cannot be built: {said}; {prefix.name} takes tokens of width "
                    f"{self.prefix.inputs} and caches {cache}."
                )
        self.side, self.patch = math.isqrt(vision.tokens), math.isqrt(self.vision.inputs // 3)
        if self.side**2 != vision.tokens or 3 * self.patch**2 != self.vision.inputs:
            raise SpecError(
                f"Architecture {architecture.name!r} cannot be built: {vision.name} has {vision.tokens} tokens of "
                f"{self.vision.inputs} numbers, which are no square of square RGB patches."
            )
        stored = [_stored(part) for part in architecture.resident]
        sizes = [part.parameters for part in architecture.resident]
        words = sizes[0] // prefix.width if sizes else 1024
        self.words = nn.Embedding(words, prefix.width, dtype=stored[0] if stored else self.prefix.dtype)
        # In memory and never read, as the file says.
        for number, (size, dtype) in enumerate(zip(sizes[1:], stored[1:], strict=True)):
            self.register_buffer(f"resident_{number}", torch.zeros(size, dtype=dtype))

    def encode_images(self, images: Tensor) -> Tensor:
        """Frames (B, cameras, 3, S, S) in [-1, 1] to vision tokens (B, cameras * tokens, width)."""
        batch, cameras = images.shape[:2]
        side, patch = self.side, self.patch
        grid = images.reshape(batch * cameras, 3, side, patch, side, patch).permute(0, 2, 4, 1, 3, 5)
        tokens: Tensor = self.vision(grid.reshape(batch * cameras, side * side, -1))[0]
        return tokens.reshape(batch, -1, tokens.shape[-1])

    def fill_cache(self, vision: Tensor, tokens: Tensor) -> Caches:
        """Vision tokens and word rows (B, text tokens) to the cache."""
        dtype = self.prefix.dtype
        caches: Caches = self.prefix(torch.cat([vision.to(dtype), self.words(tokens).to(dtype)], 1))[1]
        return caches

    def velocity(self, noisy: Tensor, time: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """Velocity (B, T, actions) in float32 of a noisy chunk at `time` (B,)."""
        velocity, _ = self.expert(noisy, time, (keys, values))
        answer: Tensor = velocity.float()
        return answer


class Sizes(NamedTuple):
    """What the outside has to know of an architecture's inputs and outputs."""

    cameras: int
    image_size: int
    """Pixels."""
    chunk_length: int
    action_width: int


def sizes_of(network: ArchNetwork) -> Sizes:
    """Read the sizes off a network."""
    expert = network.expert
    return Sizes(network.vision.tower.sequences, network.side * network.patch, expert.tower.tokens, expert.inputs)


def _only(architecture: Architecture, component: CountedComponent) -> Tower:
    towers = [tower for tower in architecture.towers if tower.component == component]
    if len(towers) != 1:
        raise SpecError(
            f"Architecture {architecture.name!r} has {len(towers)} towers of {component}, and a policy is built of one "
            "each of vision, prefix and denoise_step; it can only be predicted."
        )
    return towers[0]


def _computable(precision: Precision, name: str) -> Precision:
    integers = precision.weights == "int8"
    if (
        precision.compute not in DTYPES
        or precision.weights not in DTYPES
        or (precision.compute == "int8" and not integers)
    ):
        raise SpecError(
            f"{name} is in {precision.weights} with products in {precision.compute}, for which no layer is here; "
            f"build it in {', '.join(DTYPES)}."
        )
    return precision


def _stored(part: Resident) -> torch.dtype:
    if part.weights not in ("fp32", "bf16", "fp16"):
        raise SpecError(f"{part.name} is in {part.weights}; a table that is built lies in fp32, bf16 or fp16.")
    return DTYPES[part.weights]


def _cast(module: nn.Module, precision: Precision) -> nn.Module:
    module = module.to(DTYPES[precision.compute]).eval().requires_grad_(False)
    if precision.weights == "int8":
        # A container, so that a lone linear layer is found in it.
        quantize(nn.ModuleList([module]), "int8-activations" if precision.compute == "int8" else "int8")
    return module


def _norm(tower: Tower) -> nn.Module:
    if tower.bias:
        return nn.LayerNorm(tower.width, elementwise_affine=tower.norms)
    return nn.RMSNorm(tower.width, eps=1e-6, elementwise_affine=tower.norms)


def _modulated(x: Tensor, modulation: list[Tensor]) -> Tensor:
    # Taken in turn, so that none is left out: 37 maps for 36 norms and the last.
    if not modulation:
        return x
    modulation.append(modulation.pop(0))
    return x + modulation[-1]


def _apply(dense: nn.Module, x: Tensor) -> Tensor:
    answer: Tensor = dense(x.to(dense.bias.dtype))  # type: ignore[arg-type]
    return answer


def _inputs(dense: nn.Module) -> int:
    return int(dense.in_features)  # type: ignore[arg-type]


def _outputs(dense: nn.Module) -> int:
    return int(dense.out_features)  # type: ignore[arg-type]


def _embed_time(time: Tensor, width: int) -> Tensor:
    half = width // 2
    angle = time[:, None] * torch.logspace(0, 3, half, device=time.device)
    return torch.cat([angle.sin(), angle.cos()], 1)
