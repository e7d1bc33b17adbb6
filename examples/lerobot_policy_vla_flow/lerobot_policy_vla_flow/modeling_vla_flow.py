"""`vla_flow` in LeRobot: the harness's network behind `predict_action_chunk` and `select_action`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from harness.policies.flow import Batch, FlowPolicy, load_network, random_network, tokenize
from harness.policies.flow.policy import resize
from harness.policies.lerobot.families import LIBERO_KEYS
from harness.spec.observation import ACTION_DIM, CAMERAS
from lerobot_policy_vla_flow.configuration_vla_flow import VlaFlowConfig


class VlaFlowPolicy(PreTrainedPolicy):  # type: ignore[misc]
    """The policy. Its weights are those of `harness.policies.flow`, under the prefix `network.`."""

    config_class = VlaFlowConfig
    name = "vla_flow"

    def __init__(self, config: VlaFlowConfig, **kwargs: Any) -> None:
        """Build the network, with random weights until others are loaded."""
        del kwargs
        super().__init__(config)
        self.network = random_network(config.sizes, seed=0)
        self._sampler = FlowPolicy(self.network, device="cpu")
        self.reset()

    @classmethod
    def from_harness(cls, folder: str | Path, device: str = "cpu") -> VlaFlowPolicy:
        """Load a checkpoint that `flow:FOLDER` loads."""
        network, _ = load_network(Path(folder))
        policy = cls(VlaFlowConfig.of(network.config, device=device))
        policy.network.load_state_dict(network.state_dict())
        return policy.to(device).eval()

    def reset(self) -> None:
        """Forget the actions that are still to be executed."""
        self._queue: deque[Tensor] = deque()

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Decide.

        Args:
            batch: `observation.images.image` and `…image2` (B, 3, H, W) in [0, 1], `observation.state` (B, 8), and
                `task`, B instructions.
            noise: (B, T, 7), standard normal; None to draw it from torch's generator.
            **kwargs: Ignored.

        Returns:
            Actions in LIBERO's units, (B, T, 7).
        """
        del kwargs
        sizes = self.config.sizes
        inputs = self._read(batch)
        if noise is None:
            shape = (len(inputs.state), sizes.chunk_length, ACTION_DIM)
            noise = torch.randn(shape, device=inputs.state.device)
        cache = self.network.encode_prefix(self.network.encode_vision(inputs), inputs)
        found = self._sampler.integrate(noise.to(inputs.state.device), cache, self.config.num_inference_steps)
        return self.network.normalization.unnormalize_actions(found)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The next action of the present chunk, (B, 7); decides when it is used up."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch, noise, **kwargs)
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._queue.popleft()

    def get_optim_params(self) -> Any:
        """Its parameters."""
        return self.parameters()

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Any] | None]:
        """Not here.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("vla_flow is trained by vla-harness's examples/train_flow.py, and evaluated here.")

    def _read(self, batch: dict[str, Any]) -> Batch:
        sizes = self.config.sizes
        frames = torch.stack([batch[LIBERO_KEYS[camera]] for camera in CAMERAS], dim=1)
        tasks: Sequence[str] = [batch["task"]] if isinstance(batch["task"], str) else batch["task"]
        rows = np.stack([tokenize(task, sizes.text_tokens, sizes.text_buckets) for task in tasks])
        tokens = torch.from_numpy(rows).to(frames.device)
        return Batch(resize(frames, sizes.image_size), tokens, tokens > 0, batch["observation.state"])
