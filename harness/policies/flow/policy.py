"""The policy around the network of `flow`: numpy in, numpy out, every component in its span."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import PolicyError, UsageError
from harness.policies.base import SpanTimer, no_span, require_noise
from harness.policies.flow.checkpoint import load_network, random_network, save_network, serialize
from harness.policies.flow.guidance import OldChunk, guidance_weight, guided, target_of
from harness.policies.flow.network import Batch, Cache, FlowConfig, FlowNetwork
from harness.policies.flow.options import parse_options
from harness.policies.flow.shipped import DEFAULT, find_checkpoint
from harness.policies.graphs import CudaRecorder, GraphPool, Recorder
from harness.policies.options import Quantize
from harness.policies.quantize import quantize as quantize_layers
from harness.policies.registry import PolicyRequest
from harness.spec.identity import NOTHING, PolicyIdentity, digest_of
from harness.spec.observation import ACTION_DIM, ANY_NFE, CAMERAS, ActionChunks, Observation, PolicyInfo

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Start value of the word hash, chosen so that every word of LIBERO's instructions gets a row of its own among 1,024.
WORD_SALT = 3


@dataclass(frozen=True, slots=True)
class _Prepared(Observation):
    """An observation with what of its preprocessing needs no batch."""

    stacked: NDArray[np.uint8] | None = None
    """Its frames, (cameras, H, W, 3)."""
    rows: NDArray[np.int64] | None = None
    """Its instruction as `tokenize` gives it."""


class FlowPolicy:
    """The policy around a `FlowNetwork`: numpy in, numpy out, every component in its span."""

    def __init__(
        self,
        network: FlowNetwork,
        *,
        policy_id: str = "flow",
        checkpoint: str | None = None,
        weights_sha256: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        quantize: Quantize | None = None,
        graphs: bool | None = None,
        rtc_horizon: int | None = None,
    ) -> None:
        """Place the network.

        Args:
            network: Weights, in float32; cast in place.
            policy_id: Name in ledgers.
            checkpoint: Where the weights are from.
            weights_sha256: Digest of their file.
            device: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".
            dtype: "float32" or "bfloat16".
            quantize: How its linear layers are quantised; None leaves them.
            graphs: Whether to replay its parts as CUDA graphs; None: not yet, see `use_graphs`.
            rtc_horizon: How many actions of an old chunk guide a new one; None: all that are left.

        Raises:
            UsageError: Unknown dtype, a device that is not here, or graphs on a CPU.
        """
        if dtype not in DTYPES:
            raise UsageError(f"flow: dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
        self.device = _resolve_device(device)
        self.network = network.cast(DTYPES[dtype]).to(self.device).eval().requires_grad_(False)
        self.quantized = quantize
        if quantize is not None:
            quantize_layers(self.network, quantize)
        self.span: SpanTimer = no_span
        self.rtc_horizon = rtc_horizon
        self.graphs_asked = graphs
        self._parts = _Parts(self.network)
        if graphs:
            self.use_graphs()
        config = network.config
        settings = {"dtype": dtype, "quantize": quantize, "rtc_horizon": rtc_horizon}
        self.info = PolicyInfo(
            policy_id=policy_id,
            cameras=CAMERAS,
            chunk_length=config.chunk_length,
            replan_interval=config.replan_interval,
            nfe_options=ANY_NFE,
            default_nfe=config.default_nfe,
            noise_shape=(config.chunk_length, ACTION_DIM),
            placement="server",
            # Guidance differentiates the velocity, and rounded activations have no slope.
            rtc=quantize != "int8-activations",
            checkpoint=checkpoint,
            dtype=dtype,
            identity=_identity(network, weights_sha256, **settings) if weights_sha256 else None,
        )

    @property
    def records_sizes(self) -> bool:
        """Whether each batch size is recorded at its first call: as CUDA graphs, which it then replays."""
        return isinstance(self._parts, _Graphs)

    @property
    def provenance(self) -> dict[str, str]:
        """How it runs, where that is not how it was written."""
        graphs = {"compile": "eager+graphs"} if self.records_sizes else {}
        return graphs | ({"quantize": self.quantized} if self.quantized else {})

    def use_graphs(self, recorder: Recorder | None = None) -> None:
        """Replay its parts from now on.

        Args:
            recorder: What records them; None for CUDA.

        Raises:
            UsageError: It runs on a CPU.
        """
        if recorder is None and self.device.type != "cuda":
            raise UsageError(f"flow: graphs needs a CUDA device, and this policy runs on {self.device}; remove graphs.")
        self._parts = _Graphs(self.network, recorder or CudaRecorder(self.device))

    def drop_graphs(self) -> None:
        """Run its parts one kernel at a time again; what was recorded is freed."""
        self._parts = _Parts(self.network)

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
        normalization = self.network.normalization
        target = target_of(observations, self.info.chunk_length, normalization, self.device, self.rtc_horizon)
        # Guidance differentiates the velocity, which tensors of inference mode, and recordings of them, do not allow.
        with torch.inference_mode() if target is None and not self.records_sizes else torch.no_grad():
            with self.span("preprocess"):
                batch = self.preprocess(observations)
                x = torch.from_numpy(np.ascontiguousarray(noise, dtype=np.float32)).to(self.device)
            with self.span("vision"):
                vision = self._parts.vision(batch.images)
            with self.span("prefix"):
                cache = self._parts.prefix(vision, batch.tokens, batch.text_mask, batch.state)
            x = self.integrate(x, cache, steps, target)
            with self.span("postprocess"):
                actions = self.network.normalization.unnormalize_actions(x).cpu().numpy()
        return ActionChunks(actions)

    def integrate(self, x: Tensor, cache: Cache, nfe: int, target: OldChunk | None = None) -> Tensor:
        """Euler from t = 1 to 0 in `nfe` steps of dt = -1/nfe; x (B, T, 7) stays float32.

        A SnapFlow student's only step is a jump to t = 0; in several steps it follows the velocity, as a teacher does.
        With a target each step is guided towards it.
        """
        jump = torch.zeros(len(x), device=x.device) if nfe == 1 else None
        for step in range(nfe):
            with self.span("denoise_step"):
                time = torch.full((len(x),), 1.0 - step / nfe, device=x.device)
                if target is None:
                    velocity = self._parts.velocity(x, time, cache, jump)
                else:
                    weight = torch.full((), guidance_weight(1.0 - step / nfe, nfe), device=x.device)
                    velocity = self._parts.guided(x, time, cache, jump, weight, target)
                x = x - velocity / nfe
        return x

    def prepare(self, observation: Observation) -> Observation:
        """Stack the frames and hash the words, ahead of the batch; see `harness.policies.base.PreparingPolicy`."""
        if any(camera not in observation.images for camera in CAMERAS):
            # `act` says so.
            return observation
        given = {field.name: getattr(observation, field.name) for field in fields(Observation)}
        stacked = np.stack([observation.images[camera] for camera in CAMERAS])
        return _Prepared(**given, stacked=stacked, rows=self._rows(observation))

    def preprocess(self, observations: Sequence[Observation]) -> Batch:
        """Resize the frames, hash the words and move everything to the device.

        Raises:
            PolicyError: An observation lacks a camera.
        """
        config = self.network.config
        frames = torch.stack([self._frames(observation) for observation in observations])
        rows = [self._rows(observation) for observation in observations]
        tokens = torch.from_numpy(np.stack(rows)).to(self.device)
        state = torch.from_numpy(np.stack([o.state for o in observations]).astype(np.float32)).to(self.device)
        images = frames.to(self.device).float().div_(255.0)
        return Batch(resize(images, config.image_size), tokens, tokens > 0, state)

    def _frames(self, observation: Observation) -> Tensor:
        missing = [camera for camera in CAMERAS if camera not in observation.images]
        if missing:
            raise PolicyError(f"flow: an observation lacks camera {', '.join(missing)}; it reads {', '.join(CAMERAS)}.")
        stacked = observation.stacked if isinstance(observation, _Prepared) else None
        if stacked is None:
            stacked = np.stack([observation.images[camera] for camera in CAMERAS])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)

    def _rows(self, observation: Observation) -> NDArray[np.int64]:
        if isinstance(observation, _Prepared) and observation.rows is not None:
            return observation.rows
        config = self.network.config
        return tokenize(observation.instruction, config.text_tokens, config.text_buckets)

    def save_pretrained(self, path: str | Path) -> None:
        """Write `model.safetensors` (float32) and `config.json` into folder `path`, made if absent."""
        save_network(self.network, Path(path))


class _Parts:
    """The parts of a network that a decision calls, run one kernel at a time."""

    def __init__(self, network: FlowNetwork) -> None:
        self._network = network

    def vision(self, images: Tensor) -> Tensor:
        """Images to vision tokens."""
        return self._network.encode_images(images)

    def prefix(self, vision: Tensor, tokens: Tensor, text_mask: Tensor, state: Tensor) -> Cache:
        """Vision tokens, text and state to the cache."""
        return self._network.fill_cache(vision, tokens, text_mask, state)

    def velocity(self, x: Tensor, time: Tensor, cache: Cache, jump: Tensor | None) -> Tensor:
        """The velocity field, as the expert of the network gives it."""
        velocity: Tensor = self._network.expert(x, time, cache, jump)
        return velocity

    def guided(
        self, x: Tensor, time: Tensor, cache: Cache, jump: Tensor | None, weight: Tensor, target: OldChunk
    ) -> Tensor:
        """The velocity field guided to an old chunk."""
        return guided(lambda noisy: self.velocity(noisy, time, cache, jump), x, time, weight, target)


class _Graphs(_Parts):
    """The same parts, each recorded once per batch size. Noise goes in from outside and is never recorded."""

    def __init__(self, network: FlowNetwork, recorder: Recorder) -> None:
        super().__init__(network)
        pool, plain = GraphPool(recorder), _Parts(network)
        self._vision = pool.graphed(plain.vision, "flow's vision")
        # Containers are taken apart and built anew as plain tuples.
        self._prefix = pool.graphed(lambda *inputs: tuple(plain.prefix(*inputs)), "flow's prefix")
        self._velocity = pool.graphed(
            lambda x, time, cache, jump: plain.velocity(x, time, Cache(*cache), jump), "flow's denoise step"
        )
        self._guided = pool.graphed(
            lambda x, time, cache, jump, weight, target: plain.guided(
                x, time, Cache(*cache), jump, weight, OldChunk(*target)
            ),
            "flow's guided denoise step",
        )

    def vision(self, images: Tensor) -> Tensor:
        vision: Tensor = self._vision(images)
        return vision

    def prefix(self, vision: Tensor, tokens: Tensor, text_mask: Tensor, state: Tensor) -> Cache:
        return Cache(*self._prefix(vision, tokens, text_mask, state))

    def velocity(self, x: Tensor, time: Tensor, cache: Cache, jump: Tensor | None) -> Tensor:
        velocity: Tensor = self._velocity(x, time, tuple(cache), jump)
        return velocity

    def guided(
        self, x: Tensor, time: Tensor, cache: Cache, jump: Tensor | None, weight: Tensor, target: OldChunk
    ) -> Tensor:
        velocity: Tensor = self._guided(x, time, tuple(cache), jump, weight, tuple(target))
        return velocity


def _identity(network: FlowNetwork, weights_sha256: str, **options: object) -> PolicyIdentity:
    """The statistics are in the weights file, so they change its digest too; their own says that it was they."""
    statistics = {name: tensor.tolist() for name, tensor in network.normalization.state_dict().items()}
    # An option that is not given is no setting: identities of older ledgers stay.
    settings = asdict(network.config) | {name: value for name, value in options.items() if value is not None}
    return PolicyIdentity(weights_sha256, digest_of(settings), NOTHING, digest_of(statistics))


def tokenize(instruction: str, length: int, buckets: int) -> NDArray[np.int64]:
    """Turn an instruction into word rows by CRC-32: no vocabulary, the same in every process.

    Args:
        instruction: Natural language; case and punctuation are dropped.
        length: Words kept.
        buckets: Rows of the embedding; row 0 is padding.

    Returns:
        Shape (length,), zero-padded.
    """
    words = re.findall(r"[a-z0-9]+", instruction.lower())[:length]
    rows = np.zeros(length, dtype=np.int64)
    rows[: len(words)] = [1 + zlib.crc32(word.encode(), WORD_SALT) % (buckets - 1) for word in words]
    return rows


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (B, cameras, 3, H, W) frames by area averaging, so that no pixel of a larger frame is skipped.

    The answer lies channels last in memory, whatever the frames did: convolutions round by the layout that they are
    given, so that equal pixels would otherwise not be equal features.
    """
    frames = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    if frames.shape[-2:] != (size, size):
        # Halving has a fast path on CPUs; "area" is the same mean, over any ratio.
        halved = frames.shape[-2:] == (2 * size, 2 * size)
        frames = F.avg_pool2d(frames, 2) if halved else F.interpolate(frames, size=(size, size), mode="area")
    return frames.view(*images.shape[:3], size, size)


def _resolve_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"flow: device {device!r} is not one of auto, cpu, cuda, cuda:N.")
    if device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"flow: device {device!r} was asked for, but torch sees no CUDA device here; use cpu.")
    return torch.device(device)


def make(spec: PolicyRequest) -> FlowPolicy:
    """Build `flow` (the shipped teacher), `flow:student`, `flow:PATH`, or `flow?weights=random` (`seed`, default 0).

    Raises:
        UsageError: Unknown option, dtype or device, or a seed without random weights.
        PolicyError: There is no such checkpoint, or it does not load whole.
    """
    options = parse_options(spec)
    policy_id = f"flow:{spec.path}" if spec.path else "flow"
    if options.weights is not None:
        checkpoint = f"random:seed={options.seed or 0}"
        network = random_network(FlowConfig(), options.seed or 0)
        digest = hashlib.sha256(serialize(network)).hexdigest()
    else:
        path, checkpoint = find_checkpoint(spec.path or DEFAULT)
        network, digest = load_network(path)
    placed = options.model_dump(include={"device", "dtype", "quantize", "graphs", "rtc_horizon"})
    return FlowPolicy(network, policy_id=policy_id, checkpoint=checkpoint, weights_sha256=digest, **placed)
