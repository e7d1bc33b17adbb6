"""A LeRobot policy behind the harness's contract: batched, explicit in its noise, timed by component."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import PolicyError
from harness.policies.base import SpanTimer, no_span, require_noise
from harness.policies.lerobot.batch import ObservationReader
from harness.policies.lerobot.chunking import alike, old_chunk
from harness.policies.lerobot.families import Family
from harness.policies.lerobot.processors import Processors
from harness.policies.lerobot.sampling import Sampler
from harness.policies.lerobot.snapflow import TargetTime
from harness.policies.lerobot.spans import install
from harness.spec.observation import ACTION_DIM, ActionChunks, Observation, PolicyInfo

logger = logging.getLogger(__name__)


class LeRobotPolicy:
    """One loaded policy with its processors. The harness keeps the chunks; LeRobot's action queue is never used."""

    info: PolicyInfo
    span: SpanTimer
    """Timer of the components; the probe replaces it."""
    warnings: tuple[str, ...]
    """What a user should know about this checkpoint; also logged once."""
    provenance: Mapping[str, str]
    """Where the policy came from and how it runs: repository asked and served, commit, versions, defaults used."""

    def __init__(
        self,
        policy: Any,
        family: Family,
        processors: Processors,
        reader: ObservationReader,
        info: PolicyInfo,
        *,
        target_time: TargetTime | None = None,
        compiled: bool = False,
        timed: bool = True,
        tf32: bool = True,
        warnings: Sequence[str] = (),
        provenance: Mapping[str, str] | None = None,
    ) -> None:
        """Wrap a built policy.

        Args:
            policy: The LeRobot policy, in evaluation mode, on its device.
            family: How its type is driven.
            processors: The checkpoint's own pre- and postprocessor.
            reader: Makes its batches.
            info: What it declares to the harness.
            target_time: Handle of a SnapFlow head.
            compiled: Whether anything in it was compiled.
            timed: Whether its components can be told apart; in a sampler compiled as a whole they cannot.
            tf32: Whether fp32 products may use TF32 on CUDA.
            warnings: Logged here, once.
            provenance: Recorded by the run.
        """
        self.policy = policy
        self.family = family
        self.processors = processors
        self.reader = reader
        self.info = info
        self.span = no_span
        self.warnings = tuple(warnings)
        self.provenance = dict(provenance or {})
        self.tf32 = tf32
        self._sampler = Sampler(policy, family, target_time)
        self._compiled = compiled
        if timed:
            install(policy, family.sites, self._part)
        self._parted = timed and bool(family.sites)
        self._before_parts = ExitStack()
        for warning in self.warnings:
            logger.warning("%s: %s", info.policy_id, warning)

    @property
    def device(self) -> torch.device:
        """Where the policy runs."""
        return self.reader.device

    @property
    def records_sizes(self) -> bool:
        """Whether each batch size is recorded at its first call: as CUDA graphs, which it then replays."""
        return self.provenance.get("compile") == "eager+graphs"

    def act(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, *, nfe: int | None = None
    ) -> ActionChunks:
        """Decide for a batch; see `harness.policies.base.Policy.act`.

        Raises:
            UsageError: An NFE that the policy does not offer.
            PolicyError: Noise of another shape, a camera that is missing, frames of a size that its network cannot
                take, out of memory, or a chunk of another shape.
        """
        steps = self.info.resolve_nfe(nfe)
        require_noise(self.info, noise, len(observations))
        groups = alike(observations) if self.info.rtc else [list(range(len(observations)))]
        actions = np.empty((len(observations), self.info.chunk_length, ACTION_DIM), dtype=np.float32)
        for rows in groups:
            part = [observations[row] for row in rows]
            actions[rows] = self._act_alike(part, None if noise is None else noise[rows], steps)
        return ActionChunks(actions)

    def _act_alike(
        self, observations: Sequence[Observation], noise: NDArray[np.float32] | None, steps: int | None
    ) -> NDArray[np.float32]:
        """Decide for observations that continue old chunks alike, or none."""
        guided = self.info.rtc and observations[0].previous is not None
        # Guidance differentiates the denoiser, which tensors of inference mode do not allow.
        mode = torch.no_grad() if guided else torch.inference_mode()
        try:
            with mode, self._numerics(), ExitStack() as self._before_parts:
                self._before_parts.enter_context(self.span("preprocess"))
                batch = self.processors.pre(self.reader.read(observations))
                tensor = None if noise is None else torch.from_numpy(np.ascontiguousarray(noise)).to(self.device)
                if not self._parted:
                    self._before_parts.close()
                if self._compiled:
                    # A compiler's CUDA graphs reuse the memory of the last decision's tensors from here on.
                    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
                old = old_chunk(observations, self.processors, self.device) if guided else {}
                chunk = self._sampler.run(batch, tensor, noise, steps, old)
                with self.span("postprocess"):
                    actions = self._postprocess(chunk)
        except torch.OutOfMemoryError as error:
            raise PolicyError(
                f"{self.info.policy_id} ran out of memory on {self.device} with a batch of {len(observations)}; "
                "lower max_batch, or load it with dtype=bfloat16."
            ) from error
        except RuntimeError as error:
            if (told := self._frames_told(observations)) is not None:
                raise PolicyError(f"{told} Its network failed on them ({error}), as it does in LeRobot.") from error
            raise
        return self._checked(actions, len(observations))

    def _part(self, name: str) -> AbstractContextManager[Any]:
        """Time a component. The first of a decision ends its preprocessing, of which LeRobot does a part itself."""
        self._before_parts.close()
        return self.span(name)

    def _frames_told(self, observations: Sequence[Observation]) -> str | None:
        """Which frames have another size than the checkpoint declares; None where none has, or where it resizes."""
        declared = self.info.frame_size
        if declared is None:
            return None
        height, width = declared
        for camera in self.info.cameras:
            for found in (observation.images[camera].shape[:2] for observation in observations):
                if found != declared:
                    return (
                        f"{self.info.policy_id} was shown frames of {found[0]}×{found[1]} pixels by {camera}; its "
                        f"checkpoint declares {height}×{width}, so set `resolution: {height}` in the protocol."
                    )
        return None

    def _postprocess(self, chunk: Tensor) -> NDArray[np.float32]:
        actions: Tensor = self.processors.post(chunk)
        return actions.to("cpu", torch.float32).numpy()

    def _checked(self, actions: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
        expected = (batch, self.info.chunk_length, ACTION_DIM)
        if actions.shape != expected:
            raise PolicyError(f"{self.info.policy_id} answered actions of shape {actions.shape}, expected {expected}.")
        return actions

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        """The precision that lerobot-eval runs at: TF32 on CUDA, and autocast when the configuration asks for it."""
        cuda = self.device.type == "cuda"
        before = torch.backends.cuda.matmul.allow_tf32
        autocast: AbstractContextManager[Any] = (
            torch.autocast(self.device.type) if self.policy.config.use_amp else nullcontext()
        )
        if cuda:
            torch.backends.cuda.matmul.allow_tf32 = self.tf32
        try:
            with autocast:
                yield
        finally:
            if cuda:
                torch.backends.cuda.matmul.allow_tf32 = before
