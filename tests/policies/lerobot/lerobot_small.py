"""Sizes of the small LeRobot checkpoints of these tests, and observations and noise to drive them with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.policies.base import Policy
from harness.schedule.keys import decision_noise, episode_key
from harness.spec.observation import CAMERAS, ActionChunks, Observation

INSTRUCTIONS = (
    "pick up the black bowl and place it on the plate",
    "open the drawer",
    "put the wine bottle on the rack, then turn on the stove",
)

SMALL: dict[str, dict[str, Any]] = {
    "pi05": {"chunk_size": 6, "n_action_steps": 4, "empty_cameras": 1, "image_resolution": (56, 56)},
    "pi0": {"chunk_size": 6, "n_action_steps": 4, "image_resolution": (56, 56)},
    "smolvla": {"chunk_size": 6, "n_action_steps": 4, "num_vlm_layers": 2, "resize_imgs_with_padding": (64, 64)},
    "diffusion": {
        "n_obs_steps": 2,
        "horizon": 8,
        "use_separate_rgb_encoder_per_camera": False,
        "n_action_steps": 4,
        "down_dims": (16, 32),
        "diffusion_step_embed_dim": 16,
        "num_train_timesteps": 6,
        "spatial_softmax_num_keypoints": 4,
        "resize_shape": (64, 64),
        "pretrained_backbone_weights": None,
    },
    "act": {
        "chunk_size": 6,
        "n_action_steps": 4,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "latent_dim": 4,
        "n_vae_encoder_layers": 1,
        "pretrained_backbone_weights": None,
    },
}
"""Configuration of each small policy; sizes that LeRobot hard-codes are patched by `narrow`."""

FAMILIES = tuple(SMALL)


def statistics(seed: int = 0) -> dict[str, dict[str, Any]]:
    """Statistics of an invented data set: none of them the identity, so that skipping one shows."""
    random = np.random.default_rng(seed)

    def of(shape: tuple[int, ...]) -> dict[str, Any]:
        low, high = -1.0 - random.random(shape), 1.0 + random.random(shape)
        values = {"mean": 0.2 * random.standard_normal(shape), "std": 0.5 + random.random(shape)}
        values |= {"min": low, "max": high, "q01": low * 0.9, "q99": high * 0.9}
        return {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()}

    images = {f"observation.images.{name}": of((3, 1, 1)) for name in ("image", "image2")}
    return {"observation.state": of((8,)), "action": of((7,)), **images}


def observe(count: int, *, seed: int = 0, size: int = 64, decision: int = 0) -> list[Observation]:
    """Observations of `count` episodes, with instructions of different lengths."""
    random = np.random.default_rng(seed)

    def moment(n: int, history: tuple[Observation, ...] = ()) -> Observation:
        return Observation(
            instruction=INSTRUCTIONS[n % len(INSTRUCTIONS)],
            state=random.uniform(-0.5, 0.5, 8).astype(np.float32),
            images={camera: random.integers(0, 256, (size, size, 3), dtype=np.uint8) for camera in CAMERAS},
            episode_key=episode_key("0" * 64, "libero_spatial", n, 0, 0),
            decision=decision,
            history=history,
        )

    return [moment(n, (moment(n),)) for n in range(count)]


def noise_for(policy: Policy, observations: Sequence[Observation]) -> NDArray[np.float32] | None:
    """Keyed noise of a batch, as the harness draws it."""
    shape = policy.info.noise_shape
    if shape is None:
        return None
    return np.stack([decision_noise(o.episode_key, o.decision, shape) for o in observations])


class LerobotStates:
    """A policy that is shown LeRobot's states: their axis-angles by LeRobot's own function, which takes float32.

    That is the one operation in which the two differ before the policy; what else differs shows when it is the same.
    """

    def __init__(self, policy: Policy) -> None:
        """Show them to `policy`; the end effector's quaternion comes from the simulator's privileged poses."""
        from lerobot.processor.env_processor import LiberoProcessorStep

        self.policy, self.info = policy, replace(policy.info, privileged=True)
        self._axis_angle = LiberoProcessorStep()._quat2axisangle

    def act(self, observations: Sequence[Observation], noise: Any, *, nfe: int | None = None) -> ActionChunks:
        """Decide on the states as LeRobot computes them."""
        return self.policy.act([self._shown(seen) for seen in observations], noise, nfe=nfe)

    def _shown(self, seen: Observation) -> Observation:
        w, *xyz = seen.privileged["robot0_eef"][3:]
        turned = self._axis_angle(torch.tensor([[*xyz, w]], dtype=torch.float64))[0].numpy()
        return replace(seen, state=np.concatenate([seen.state[:3], turned, seen.state[6:]]))


class Spans:
    """A span timer that counts instead of timing."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.seen: list[str] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.seen.append(name)
        yield


def lerobot_actions(
    folder: Path, observations: Sequence[Observation], noise: NDArray[np.float32] | None, nfe: int | None = None
) -> NDArray[np.float32]:
    """What LeRobot itself answers: its loader, its LIBERO environment's conversion, its processors, its sampler.

    Nothing of the harness is used but the observations, which are turned back to robosuite's orientation first.
    """
    from lerobot.configs import PreTrainedConfig
    from lerobot.envs import preprocess_observation
    from lerobot.policies import get_policy_class, make_pre_post_processors
    from lerobot.processor.env_processor import LiberoProcessorStep
    from lerobot.processor.pipeline import PolicyProcessorPipeline

    config = PreTrainedConfig.from_pretrained(folder)
    if nfe is not None:
        key = "num_steps" if config.type == "smolvla" else "num_inference_steps"
        setattr(config, key, nfe)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    pre, post = make_pre_post_processors(config, pretrained_path=str(folder))
    raw = {
        "pixels": {
            key: np.stack([o.images[camera][::-1, ::-1] for o in observations])
            for camera, key in (("agentview", "image"), ("robot0_eye_in_hand", "image2"))
        },
        "agent_pos": np.stack([o.state for o in observations]),
    }
    batch = preprocess_observation(raw)
    batch["task"] = [o.instruction for o in observations]
    batch = pre(PolicyProcessorPipeline(steps=[LiberoProcessorStep()])(batch))
    arguments = {} if noise is None else {"noise": torch.from_numpy(noise)}
    with torch.inference_mode():
        if config.type == "diffusion":
            batch["observation.state"] = batch["observation.state"].unsqueeze(1)
        chunk = policy.predict_action_chunk(batch, **arguments)
        # As its rollout does: one action of the chunk at a time.
        return torch.stack([post(chunk[:, n]) for n in range(chunk.shape[1])], dim=1).numpy()
