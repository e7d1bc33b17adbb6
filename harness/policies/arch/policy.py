"""The policy around an `ArchNetwork`: every input reaches the answer, every component is in its span."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import PolicyError, UsageError
from harness.policies.arch.network import ArchNetwork, sizes_of
from harness.policies.arch.options import ArchOptions, read_request
from harness.policies.base import SpanTimer, no_span, require_noise
from harness.policies.flow.policy import tokenize
from harness.policies.graphs import CudaRecorder, GraphPool
from harness.policies.registry import PolicyRequest
from harness.spec.architecture import Architecture
from harness.spec.identity import NOTHING, PolicyIdentity, digest_of
from harness.spec.observation import ACTION_DIM, ANY_NFE, CAMERAS, ActionChunks, Observation, PolicyInfo

REPLAN = 10
"""Actions of a chunk that are executed, at most: LIBERO's usual replan interval."""
HEADROOM = 1.1
"""Memory asked for beside weights and cache: activations, and a layer in float32 while it is built."""
STATE_RANGE = 4.0
"""Half of the range of a state's numbers that its words tell apart, as Pi0.5 writes the state into its prompt."""


class ArchPolicy:
    """A policy of random weights in the layers of an architecture file."""

    def __init__(self, architecture: Architecture, options: ArchOptions, policy_id: str) -> None:
        """Build it on its device.

        Raises:
            UsageError: A device that is not here, or graphs on a CPU.
            SpecError: An architecture that cannot be built.
            PolicyError: It does not fit into the memory that is free.
        """
        cuda = torch.cuda.is_available()
        if options.device.startswith("cuda") and not cuda:
            raise UsageError(f"arch: device {options.device!r} was asked for, but torch sees no CUDA device; use cpu.")
        auto = "cuda" if cuda else "cpu"
        self.device = torch.device(auto if options.device == "auto" else options.device)
        if options.graphs and self.device.type != "cuda":
            raise UsageError(f"arch: graphs needs a CUDA device, and this policy runs on {self.device}; remove graphs.")
        _require_memory(architecture, self.device)
        devices = [self.device.index or 0] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), self.device:
            torch.manual_seed(options.seed)
            self.network = ArchNetwork(architecture).eval().requires_grad_(False)
        self.sizes = sizes_of(self.network)
        self.span: SpanTimer = no_span
        pool = GraphPool(CudaRecorder(self.device)) if options.graphs else None
        parts: dict[str, Callable[..., Any]] = {
            "vision": self.network.encode_images,
            "prefix": self.network.fill_cache,
            "denoise step": self.network.velocity,
        }
        if pool is not None:
            parts = {name: pool.graphed(part, f"arch's {name}") for name, part in parts.items()}
        self._vision, self._prefix, self._velocity = parts.values()
        self.provenance = {"weights": f"random, seed {options.seed}", "architecture": architecture.source}
        if options.graphs:
            self.provenance["compile"] = "eager+graphs"
        self.warnings = ("The weights are random: latency is meaningful, success is not.",)
        recipe = digest_of([architecture.model_dump(mode="json"), options.seed])
        extra = tuple(f"camera{n}" for n in range(len(CAMERAS) + 1, self.sizes.cameras + 1))
        self.info = PolicyInfo(
            policy_id=policy_id,
            cameras=(*CAMERAS, *extra)[: self.sizes.cameras],
            chunk_length=self.sizes.chunk_length,
            replan_interval=min(REPLAN, self.sizes.chunk_length),
            nfe_options=ANY_NFE,
            default_nfe=max(architecture.nfe),
            noise_shape=(self.sizes.chunk_length, self.sizes.action_width),
            placement="server",
            checkpoint=f"random:{architecture.name}:seed={options.seed}",
            dtype=str(self.network.prefix.dtype).removeprefix("torch."),
            identity=PolicyIdentity(recipe, recipe, NOTHING, NOTHING),
        )

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Decide for a batch (see `harness.policies.base.Policy.act`).

        Raises:
            UsageError: `nfe` is below 1.
            PolicyError: The noise is missing or of another shape, or a camera is missing.
        """
        steps = self.info.resolve_nfe(nfe) or 1
        require_noise(self.info, noise, len(observations))
        with torch.inference_mode(), _tf32(self.device):
            with self.span("preprocess"):
                images, words = self._read(observations)
                x = torch.from_numpy(np.ascontiguousarray(noise, dtype=np.float32)).to(self.device)
            with self.span("vision"):
                vision = self._vision(images)
            with self.span("prefix"):
                keys, values = self._prefix(vision, words)
            for step in range(steps):
                with self.span("denoise_step"):
                    time = torch.full((len(x),), 1.0 - step / steps, device=self.device)
                    x = x - self._velocity(x, time, keys, values) / steps
            with self.span("postprocess"):
                actions = x[..., :ACTION_DIM].clamp(-1.0, 1.0)
                padded = F.pad(actions, (0, ACTION_DIM - actions.shape[-1])).cpu().numpy()
        return ActionChunks(padded)

    def _read(self, observations: Sequence[Observation]) -> tuple[Tensor, Tensor]:
        """Frames in [-1, 1] (B, cameras, 3, S, S), and rows of the word embedding: instruction, then state."""
        missing = [name for seen in observations for name in self.info.cameras if name not in seen.images]
        if missing:
            raise PolicyError(
                f"arch: an observation lacks camera {missing[0]}; it reads {', '.join(self.info.cameras)}."
            )
        frames = np.stack([np.stack([seen.images[name] for name in self.info.cameras]) for seen in observations])
        images = torch.from_numpy(frames).to(self.device).permute(0, 1, 4, 2, 3).float().div_(127.5).sub_(1.0)
        size = self.sizes.image_size
        flat = F.interpolate(images.flatten(0, 1), size=(size, size), mode="bilinear", antialias=True)
        buckets, length = self.network.words.num_embeddings, self.network.text_tokens
        rows = np.zeros((len(observations), length), dtype=np.int64)
        for row, seen in zip(rows, observations, strict=True):
            told = min(len(seen.state), length - 1)
            bins = np.clip((seen.state / STATE_RANGE + 1) / 2, 0, 1) * min(255, buckets - 1)
            row[: length - told] = tokenize(seen.instruction, length - told, buckets)
            row[length - told :] = bins[:told].astype(np.int64)
        return flat.view(*images.shape[:3], size, size), torch.from_numpy(rows).to(self.device)


def build(spec: PolicyRequest) -> ArchPolicy:
    """Build `arch:NAME` or `arch:PATH.yaml`.

    Raises:
        HarnessError: See `ArchPolicy` and `harness.policies.arch.options.read_request`.
    """
    architecture, options = read_request(spec)
    return ArchPolicy(architecture, options, f"arch:{spec.path}")


def _require_memory(architecture: Architecture, device: torch.device) -> None:
    needed = HEADROOM * architecture.memory_bytes
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        variants = [f"{architecture.name}-{suffix}" for suffix in architecture.variants]
        remedy = f", or take a smaller variant ({', '.join(variants)})" if variants else ""
        raise PolicyError(
            f"arch:{architecture.name} needs {needed / 1e9:.2f} GB on {device} and {free / 1e9:.2f} GB are free; "
            f"nothing was built. Stop what else uses the memory{remedy}."
        )


@contextlib.contextmanager
def _tf32(device: torch.device) -> Iterator[None]:
    """Let float32 products use TF32 on CUDA, as LeRobot does."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
