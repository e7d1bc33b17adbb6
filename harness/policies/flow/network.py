"""The network of `flow`: vision encoder, prefix transformer and action expert."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import SpecError
from harness.spec.observation import ACTION_DIM, CAMERAS

STATE_DIM = 8


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """Sizes of the network; a checkpoint carries its own."""

    image_size: int = 128
    """Height and width that frames are resized to, pixels; a multiple of 16."""
    channels: tuple[int, ...] = (32, 64, 128, 192)
    """Channels of the vision stages; each halves the resolution."""
    width: int = 192
    """Width of prefix and expert tokens."""
    heads: int = 6
    layers: int = 4
    """Depth of the cache: the expert has this many layers, the prefix the same less the dead tail of its last."""
    prefix_mlp: int = 768
    expert_mlp: int = 384
    text_tokens: int = 32
    """Words of the instruction that are read; shorter ones are padded and masked."""
    text_buckets: int = 1024
    """Rows of the word embedding; a word's row is its CRC-32 modulo this."""
    chunk_length: int = 10
    replan_interval: int = 10
    default_nfe: int = 10
    target_time: bool = False
    """Whether the expert is also told the time that its step ends at, as a SnapFlow student is (arXiv 2604.05656)."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be built.

        Raises:
            SpecError: Names the value.
        """
        object.__setattr__(self, "channels", tuple(self.channels))
        step = 2 ** len(self.channels)
        if self.image_size % step:
            raise SpecError(f"flow: image_size {self.image_size} is not a multiple of {step}.")
        if self.width % (2 * self.heads):
            raise SpecError(f"flow: width {self.width} does not split over {self.heads} heads of even size.")
        if not 1 <= self.replan_interval <= self.chunk_length:
            raise SpecError(f"flow: replan_interval {self.replan_interval} is not in 1..{self.chunk_length}.")

    @property
    def camera_tokens(self) -> int:
        """Vision tokens per camera."""
        side: int = self.image_size // 2 ** len(self.channels)
        return side * side

    @property
    def prefix_tokens(self) -> int:
        """Tokens in the cache: both cameras, the text and one of state."""
        return len(CAMERAS) * self.camera_tokens + self.text_tokens + 1


class Batch(NamedTuple):
    """What the network reads, on its device."""

    images: Tensor
    """(B, cameras, 3, image_size, image_size), in [0, 1]."""
    tokens: Tensor
    """(B, text_tokens), int64, rows of the word embedding."""
    text_mask: Tensor
    """(B, text_tokens), bool, True on words."""
    state: Tensor
    """(B, 8), physical units."""


class Cache(NamedTuple):
    """What the prefix leaves for the expert."""

    keys: list[Tensor]
    """Per layer (B, heads, prefix_tokens, head_dim)."""
    values: list[Tensor]
    mask: Tensor
    """(B, 1, 1, prefix_tokens + chunk_length), bool, True where the expert may look."""


class Normalization(nn.Module):
    """Statistics of the training data, kept in float32 and saved with the weights."""

    def __init__(self) -> None:
        """Start from the identity for states and actions, and [0, 1] → [-1, 1] for images."""
        super().__init__()
        self.register_buffer("image_mean", torch.full((3,), 0.5))
        self.register_buffer("image_std", torch.full((3,), 0.5))
        self.register_buffer("state_mean", torch.zeros(STATE_DIM))
        self.register_buffer("state_std", torch.ones(STATE_DIM))
        self.register_buffer("action_mean", torch.zeros(ACTION_DIM))
        self.register_buffer("action_std", torch.ones(ACTION_DIM))

    def images(self, images: Tensor) -> Tensor:
        """Normalise (…, 3, H, W) frames in [0, 1]."""
        return (images - self.get_buffer("image_mean")[:, None, None]) / self.get_buffer("image_std")[:, None, None]

    def state(self, state: Tensor) -> Tensor:
        """Standardise (B, 8) states; clipped to ±5 so that an unseen pose cannot blow up the prefix."""
        return ((state - self.get_buffer("state_mean")) / self.get_buffer("state_std")).clamp(-5.0, 5.0)

    def actions(self, actions: Tensor) -> Tensor:
        """Standardise (…, 7) actions: what training regresses."""
        return (actions - self.get_buffer("action_mean")) / self.get_buffer("action_std")

    def unnormalize_actions(self, actions: Tensor) -> Tensor:
        """Invert `actions` and clip to LIBERO's range [-1, 1]."""
        return (actions * self.get_buffer("action_std") + self.get_buffer("action_mean")).clamp(-1.0, 1.0)


class ResidualStage(nn.Module):
    """Halve the resolution, then one residual block; group norm, so that no sample sees its batch."""

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        """Build the stage.

        Args:
            inputs: Channels in.
            outputs: Channels out.
            residual: Whether a residual block follows the stride.
        """
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.GroupNorm(outputs // 16, outputs)
        self.residual = residual
        if residual:
            self.conv1 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.norm1 = nn.GroupNorm(outputs // 16, outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.norm2 = nn.GroupNorm(outputs // 16, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H/2, W/2)."""
        x = F.relu(self.down_norm(self.down(x)))
        if not self.residual:
            return x
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class VisionEncoder(nn.Module):
    """Convolutional encoder, shared by the cameras; a camera embedding and positions tell the tokens apart."""

    def __init__(self, config: FlowConfig) -> None:
        """Build the stages; the first keeps no block, since full resolution is where convolutions cost most."""
        super().__init__()
        inputs = (3, *config.channels[:-1])
        self.stages = nn.Sequential(
            *(ResidualStage(i, o, n > 0) for n, (i, o) in enumerate(zip(inputs, config.channels, strict=True)))
        )
        self.project = nn.Linear(config.channels[-1], config.width)
        self.position = nn.Parameter(torch.empty(len(CAMERAS), config.camera_tokens, config.width))

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, cameras, 3, S, S) to tokens (B, cameras * camera_tokens, width)."""
        batch, cameras = images.shape[:2]
        grid = self.stages(images.flatten(0, 1))
        tokens = self.project(grid.flatten(2).transpose(1, 2))
        positioned: Tensor = tokens.view(batch, cameras, *tokens.shape[1:]) + self.position
        return positioned.flatten(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Multi-head attention; (B, heads, n, head_dim) to (B, n, width)."""
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split (B, n, parts * width) into `parts` tensors (B, heads, n, head_dim)."""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, parts, heads, width // (parts * heads)).permute(2, 0, 3, 1, 4).unbind(0)


class PrefixLayer(nn.Module):
    """One transformer layer of the prefix; the last has no output, only keys and values."""

    def __init__(self, config: FlowConfig, last: bool) -> None:
        """Build the layer.

        Args:
            config: Sizes of the network.
            last: Whether it is the last layer, of which only keys and values are read.
        """
        super().__init__()
        self.heads, self.last = config.heads, last
        self.norm1 = nn.RMSNorm(config.width, eps=1e-6)
        self.qkv = nn.Linear(config.width, (2 if last else 3) * config.width, bias=False)
        if not last:
            self.out = nn.Linear(config.width, config.width, bias=False)
            self.norm2 = nn.RMSNorm(config.width, eps=1e-6)
            self.up = nn.Linear(config.width, config.prefix_mlp)
            self.down = nn.Linear(config.prefix_mlp, config.width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map tokens (B, n, width) to (tokens, keys, values)."""
        projected = self.qkv(self.norm1(x))
        if self.last:
            keys, values = split_heads(projected, 2, self.heads)
            return x, keys, values
        queries, keys, values = split_heads(projected, 3, self.heads)
        x = x + self.out(attend(queries, keys, values, mask))
        x = x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))
        return x, keys, values


class Prefix(nn.Module):
    """Vision, text and state tokens through a bidirectional transformer that fills the cache."""

    def __init__(self, config: FlowConfig) -> None:
        """Build embeddings and layers."""
        super().__init__()
        self.chunk_length = config.chunk_length
        self.words = nn.Embedding(config.text_buckets, config.width)
        self.word_position = nn.Parameter(torch.empty(config.text_tokens, config.width))
        self.state = nn.Sequential(
            nn.Linear(STATE_DIM, config.width), nn.GELU(approximate="tanh"), nn.Linear(config.width, config.width)
        )
        self.layers = nn.ModuleList(PrefixLayer(config, n == config.layers - 1) for n in range(config.layers))

    def forward(self, vision: Tensor, tokens: Tensor, text_mask: Tensor, state: Tensor) -> Cache:
        """Fill the cache.

        Args:
            vision: (B, cameras * camera_tokens, width).
            tokens: (B, text_tokens), int64.
            text_mask: (B, text_tokens), bool.
            state: (B, 8), normalised.
        """
        text = self.words(tokens) + self.word_position
        x = torch.cat([vision, text, self.state(state)[:, None]], dim=1)
        seen = text_mask.new_ones(())
        before, after = seen.expand(len(x), vision.shape[1]), seen.expand(len(x), 1 + self.chunk_length)
        mask = torch.cat([before, text_mask, after], dim=1)[:, None, None]
        keys, values = [], []
        for layer in self.layers:
            x, key, value = layer(x, mask[..., : x.shape[1]])
            keys.append(key)
            values.append(value)
        return Cache(keys, values, mask)


class ExpertLayer(nn.Module):
    """One layer of the action expert: joint attention over the cache and the chunk, modulated by time."""

    def __init__(self, config: FlowConfig) -> None:
        """Build projections; the norms carry no weight, time modulates them."""
        super().__init__()
        self.heads, self.width = config.heads, config.width
        self.modulation = nn.Parameter(torch.empty(6, config.width))
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.up = nn.Linear(config.width, config.expert_mlp)
        self.down = nn.Linear(config.expert_mlp, config.width)

    def forward(self, x: Tensor, time: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Map chunk tokens (B, T, width), with `time` the shared modulation (B, 6, width), to the same shape."""
        scale1, shift1, gate1, scale2, shift2, gate2 = (time + self.modulation)[:, :, None].unbind(1)
        normed = torch.addcmul(shift1, F.rms_norm(x, (self.width,), eps=1e-6), 1 + scale1)
        queries, own_keys, own_values = split_heads(self.qkv(normed), 3, self.heads)
        mixed = attend(queries, torch.cat([keys, own_keys], 2), torch.cat([values, own_values], 2), mask)
        x = torch.addcmul(x, self.out(mixed), 1 + gate1)
        normed = torch.addcmul(shift2, F.rms_norm(x, (self.width,), eps=1e-6), 1 + scale2)
        return torch.addcmul(x, self.down(F.gelu(self.up(normed), approximate="tanh")), 1 + gate2)


class ActionExpert(nn.Module):
    """The velocity field: noisy chunk, time and cache to velocity."""

    def __init__(self, config: FlowConfig) -> None:
        """Build the layers and the one modulation they share (each adds its own offset)."""
        super().__init__()
        self.width = config.width
        self.action_in = nn.Linear(ACTION_DIM, config.width)
        self.position = nn.Parameter(torch.empty(config.chunk_length, config.width))
        self.time_in = nn.Linear(config.width, config.width)
        self.time_out = nn.Linear(config.width, 6 * config.width)
        self.target_in = nn.Linear(config.width, config.width) if config.target_time else None
        self.target_out = nn.Linear(config.width, config.width) if config.target_time else None
        self.layers = nn.ModuleList(ExpertLayer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.action_out = nn.Linear(config.width, ACTION_DIM)

    def embed_time(self, time: Tensor) -> Tensor:
        """Sine and cosine features of t, (B,) to (B, width), periods 4e-3 to 4 as in Pi0."""
        half = self.width // 2
        fraction = torch.arange(half, device=time.device, dtype=torch.float32) / (half - 1)
        angle = time[:, None] * (2 * math.pi / (4e-3 * (4.0 / 4e-3) ** fraction))
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    def forward(self, noisy: Tensor, time: Tensor, cache: Cache, target: Tensor | None = None) -> Tensor:
        """Map a noisy chunk to its velocity.

        Args:
            noisy: (B, T, 7), normalised.
            time: (B,), 1 is noise and 0 is actions.
            cache: Keys and values of the prefix, per layer.
            target: (B,), the time that the step ends at; None for `time` itself: the instantaneous velocity. A network
                without `target_time` has no other.

        Returns:
            (B, T, 7), float32.
        """
        dtype = self.action_in.weight.dtype
        embedded = F.silu(self.time_in(self.embed_time(time).to(dtype)))
        if self.target_in is not None and self.target_out is not None:
            goal = self.embed_time(time if target is None else target).to(dtype)
            embedded = embedded + self.target_out(F.silu(self.target_in(goal)))
        modulation = self.time_out(embedded).view(-1, 6, self.width)
        x = self.action_in(noisy.to(dtype)) + self.position
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            x = layer(x, modulation, keys, values, cache.mask)
        velocity: Tensor = self.action_out(self.norm(x)).float()
        return velocity


class FlowNetwork(nn.Module):
    """The trainable whole: vision, prefix, expert and the statistics of their data."""

    def __init__(self, config: FlowConfig) -> None:
        """Build the modules; weights come from `initialize` or from a checkpoint."""
        super().__init__()
        self.config = config
        self.normalization = Normalization()
        self.vision = VisionEncoder(config)
        self.prefix = Prefix(config)
        self.expert = ActionExpert(config)

    def cast(self, dtype: torch.dtype) -> FlowNetwork:
        """Cast the weights, leaving the statistics in float32."""
        for module in (self.vision, self.prefix, self.expert):
            module.to(dtype)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Parameter dtype."""
        return self.expert.action_in.weight.dtype

    def encode_vision(self, batch: Batch) -> Tensor:
        """Images of the batch to vision tokens."""
        return self.encode_images(batch.images)

    def encode_images(self, images: Tensor) -> Tensor:
        """Images (B, cameras, 3, image_size, image_size) in [0, 1] to vision tokens."""
        tokens: Tensor = self.vision(self.normalization.images(images).to(self.dtype))
        return tokens

    def encode_prefix(self, vision: Tensor, batch: Batch) -> Cache:
        """Vision tokens, text and state of the batch to the cache."""
        return self.fill_cache(vision, batch.tokens, batch.text_mask, batch.state)

    def fill_cache(self, vision: Tensor, tokens: Tensor, text_mask: Tensor, state: Tensor) -> Cache:
        """Vision tokens with the other parts of a `Batch` to the cache."""
        cache: Cache = self.prefix(vision, tokens, text_mask, self.normalization.state(state).to(self.dtype))
        return cache

    def forward(self, batch: Batch, noisy: Tensor, time: Tensor) -> Tensor:
        """Velocity (B, T, 7) of a noisy normalised chunk (B, T, 7) at `time` (B,): what flow matching regresses."""
        velocity: Tensor = self.expert(noisy, time, self.encode_prefix(self.encode_vision(batch), batch))
        return velocity
