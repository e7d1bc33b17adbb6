"""From the harness's observations to the batch that LeRobot's own LIBERO environment would have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import PolicyError
from harness.spec.observation import Observation

STATE_KEY = "observation.state"
TASK_KEY = "task"


class ObservationReader:
    """Stack observations into LeRobot's keys, shapes and ranges.

    What LeRobot's `preprocess_observation` and `LiberoProcessorStep` do, less the turn by 180°, which the harness's
    protocol has done already: frames channels first in [0, 1], the 8-d state, the instruction as the task.
    """

    def __init__(
        self,
        cameras: Mapping[str, str],
        device: torch.device,
        steps: int | None,
        sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Read the given cameras.

        Args:
            cameras: LIBERO camera → key in the batch.
            device: Where frames are converted.
            steps: Length of the time axis, (B, steps, …); None for a policy that takes none.
            sizes: Camera → (height, width) that its frames are brought to; None leaves them.
        """
        self.cameras = dict(cameras)
        self.device = device
        self.steps = steps
        self.sizes = dict(sizes or {})
        # On CUDA, x / 255 is computed as x * (1 / 255), which differs from the CPU's quotient in the last bit; looking
        # the 256 quotients up keeps frames equal to LeRobot's, and moves bytes instead of floats.
        self._quotients = (torch.arange(256, dtype=torch.float32) / 255).to(device) if device.type == "cuda" else None

    def read(self, observations: Sequence[Observation]) -> dict[str, Any]:
        """Build the batch.

        Returns:
            Camera keys → (B, [steps,] 3, H, W) float32 in [0, 1]; "observation.state" → (B, [steps,] 8) float32;
            "task" → B instructions.

        Raises:
            PolicyError: A frame or an earlier observation is missing, or frames differ in size.
        """
        windows = [self._window(observation) for observation in observations]
        batch: dict[str, Any] = {key: self._frames(windows, camera) for camera, key in self.cameras.items()}
        state = np.stack([np.stack([moment.state for moment in window]) for window in windows])
        batch[STATE_KEY] = self._without_axis(torch.from_numpy(state.astype(np.float32, copy=False)))
        batch[TASK_KEY] = [observation.instruction for observation in observations]
        return batch

    def _window(self, observation: Observation) -> tuple[Observation, ...]:
        """The last `steps` observations, oldest first; an episode's first one stands for those before it."""
        wanted = self.steps or 1
        moments = (*observation.history, observation)[-wanted:]
        if len(moments) < wanted and observation.decision > 0 and len(observation.history) == 0:
            raise PolicyError(
                f"The policy looks at {wanted} consecutive control steps, but decision {observation.decision} came "
                "without earlier observations; the rollout has to fill Observation.history."
            )
        return (moments[0],) * (wanted - len(moments)) + moments

    def _frames(self, windows: Sequence[tuple[Observation, ...]], camera: str) -> Tensor:
        try:
            frames = np.stack([np.stack([moment.images[camera] for moment in window]) for window in windows])
        except KeyError as error:
            raise PolicyError(f"An observation lacks camera {camera!r}, which the policy reads.") from error
        except ValueError as error:
            raise PolicyError(f"Frames of camera {camera!r} differ in size within one batch ({error}).") from error
        pixels = self._sized(torch.from_numpy(frames).to(self.device).movedim(-1, -3).contiguous(), camera)
        images = pixels.float().div_(255) if self._quotients is None else self._quotients[pixels.int()]
        return self._without_axis(images)

    def _sized(self, pixels: Tensor, camera: str) -> Tensor:
        """Frames in the size that is wanted: bilinear and in whole grey values, as LeRobot's policy server does it.

        Source: lerobot 0.6.1, `async_inference/helpers.py`, `resize_robot_observation_image`.
        """
        size = self.sizes.get(camera)
        if size is None or pixels.shape[-2:] == size:
            return pixels
        flat = pixels.flatten(0, 1)
        resized = torch.nn.functional.interpolate(flat, size=size, mode="bilinear", align_corners=False)
        return resized.reshape(*pixels.shape[:3], *size)

    def _without_axis(self, tensor: Tensor) -> Tensor:
        return tensor if self.steps is not None else tensor[:, 0]
