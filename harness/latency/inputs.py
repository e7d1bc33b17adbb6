"""Observations to probe with: LIBERO's shapes and value ranges from a seed, so that a probe needs no simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.spec.observation import CAMERAS, Observation

N_OBSERVATIONS = 8
"""Distinct inputs of a probe, used in turn, so that nothing downstream can cache an answer."""

# Instructions of libero_spatial: 13 to 16 words, so that the text part of a prefix has its real length.
INSTRUCTIONS = (
    "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "pick up the black bowl next to the ramekin and place it on the plate",
    "pick up the black bowl from table center and place it on the plate",
    "pick up the black bowl on the cookie box and place it on the plate",
    "pick up the black bowl in the top drawer of the wooden cabinet and place it on the plate",
    "pick up the black bowl on the ramekin and place it on the plate",
    "pick up the black bowl next to the cookie box and place it on the plate",
    "pick up the black bowl on the stove and place it on the plate",
)
# Reset pose of LIBERO's Panda (position in m, axis-angle in rad, gripper in m) and the spread of a workspace around it.
STATE_CENTRE = (-0.2, 0.0, 1.17, 3.14, 0.0, 0.0, 0.04, -0.04)
STATE_SPREAD = (0.1, 0.15, 0.1, 0.02, 0.1, 0.1, 0.005, 0.005)


def synthetic_observations(
    count: int, *, seed: int = 0, resolution: int = 256, cameras: tuple[str, ...] = CAMERAS, words: int | None = None
) -> list[Observation]:
    """Draw LIBERO-shaped observations.

    Args:
        count: How many.
        seed: The same seed gives the same observations.
        resolution: Height and width of the frames, pixels.
        cameras: Frames to include.
        words: Length of the instructions; None for LIBERO's own.

    Returns:
        Observations whose frames are smooth pictures with noise (neither constant nor white, since JPEG-like paths and
        branchy preprocessing may depend on content).
    """
    rng = np.random.default_rng(seed)
    return [
        Observation(
            instruction=_of_length(INSTRUCTIONS[n % len(INSTRUCTIONS)], words),
            state=(np.array(STATE_CENTRE) + np.array(STATE_SPREAD) * rng.standard_normal(8)).astype(np.float32),
            images={camera: _picture(rng, resolution) for camera in cameras},
            episode_key=f"{n:064x}",
        )
        for n in range(count)
    ]


def probe_observations(
    batch_sizes: Sequence[int], words: int | None = None, *, resolution: int = 256
) -> list[Observation]:
    """Inputs of a probe: at least `N_OBSERVATIONS`, and as many as the largest of `batch_sizes`.

    Args:
        batch_sizes: Observations in one decision.
        words: Length of the instructions; None for LIBERO's own.
        resolution: Of the protocol's frames, pixels.
    """
    return synthetic_observations(max(N_OBSERVATIONS, *batch_sizes), words=words, resolution=resolution)


def with_cameras(
    observations: Sequence[Observation], cameras: Sequence[str], size: tuple[int, int] | None = None
) -> tuple[Observation, ...]:
    """Give observations what a policy looks at: it may look through any number of cameras, at frames of its own size.

    Args:
        observations: As drawn.
        cameras: What the policy looks through; a synthetic frame is added for each that is lacking.
        size: (height, width) that its checkpoint declares, pixels; None for the size that the frames have.
    """
    rng = np.random.default_rng(len(observations))
    found = []
    for observation in observations:
        drawn = next((image.shape[:2] for image in observation.images.values()), (256, 256))
        wanted = drawn if size is None else size
        kept = {camera: image for camera, image in observation.images.items() if image.shape[:2] == wanted}
        lacking = [camera for camera in dict.fromkeys((*observation.images, *cameras)) if camera not in kept]
        frames = {camera: _picture(rng, max(wanted))[: wanted[0], : wanted[1]].copy() for camera in lacking}
        found.append(replace(observation, images={**observation.images, **frames}) if frames else observation)
    return tuple(found)


def _of_length(instruction: str, words: int | None) -> str:
    """Cut an instruction to a number of words, or go on with it from its beginning."""
    spoken = instruction.split()
    return instruction if words is None else " ".join(spoken[n % len(spoken)] for n in range(words))


def _picture(rng: np.random.Generator, resolution: int) -> NDArray[np.uint8]:
    """A gradient, a few flat boxes and sensor noise, shape (resolution, resolution, 3)."""
    ramp = np.linspace(40.0, 180.0, resolution)
    picture = np.stack([np.add.outer(ramp, ramp * rng.uniform(0.0, 0.4)) for _ in range(3)], axis=-1)
    for _ in range(6):
        top, left = rng.integers(0, resolution * 3 // 4, 2)
        height, width = rng.integers(resolution // 16, resolution // 4, 2)
        picture[top : top + height, left : left + width] = rng.uniform(0, 255, 3)
    return np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
