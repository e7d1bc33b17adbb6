"""What differs between LeRobot's policy types, as data. Read in the source of LeRobot 0.6.1; nothing is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.errors import unknown_name
from harness.spec.action_space import ControlMode

NfeRoute = Literal["argument", "config", "attribute"]
NoiseRoute = Literal["argument", "intercepted", "none"]


@dataclass(frozen=True, slots=True)
class Site:
    """A callable inside a LeRobot policy that is one component of a decision."""

    span: str
    """Component name: vision, prefix or denoise_step."""
    path: str
    """Dotted path from the policy to the callable."""
    prefix_only: bool = False
    """The callable serves prefix and suffix; only calls whose `inputs_embeds[1]` is None are the prefix."""


@dataclass(frozen=True, slots=True)
class Family:
    """How one LeRobot policy type is driven."""

    type: str
    """Name in `config.json`."""
    tested: bool = False
    """Whether this project's tests run it; the others carry their declared settings and say so."""
    nfe_key: str | None = None
    """Configuration field that holds the number of denoising steps; None for policies without a loop."""
    nfe_route: NfeRoute = "config"
    """How steps reach the sampler: the keyword `num_steps` of `predict_action_chunk`, the configuration field, which
    the sampler reads at every call, or an attribute copied at construction (`nfe_path`)."""
    nfe_path: str = ""
    """Dotted path from the policy to that attribute."""
    nfe_default_field: str | None = None
    """Field that supplies the default when the checkpoint stores null under `nfe_key`; it also bounds the NFE."""
    noise: NoiseRoute = "intercepted"
    """"argument": `predict_action_chunk(noise=)` reaches the sampler. "intercepted": it does not, and the sampler's
    random draws are answered from the keyed noise instead. "none": it draws nothing."""
    noise_fields: tuple[str, ...] = ()
    """Configuration fields that give one decision's noise shape; "action" stands for the action dimension."""
    stepwise_draws: tuple[str, str] | None = None
    """Configuration field and the value at which the sampler also draws at every step, beside its `noise` argument."""
    chunk_field: str = "chunk_size"
    """Configuration field with the number of actions that `predict_action_chunk` returns."""
    observation_steps: bool = False
    """Whether `n_obs_steps` may exceed 1."""
    keeps_frames: bool = False
    """Whether frames reach the network in the size in which they come, which LeRobot neither checks nor changes."""
    size_bound: bool = False
    """Whether its network fails on frames of another size than the checkpoint declares, where nothing resizes them."""
    pads_cameras: bool = False
    """Whether it pads and masks the image of a camera that is not there."""
    dtype_field: str | None = None
    """Configuration field that sets the parameter dtype."""
    control_mode: ControlMode = "relative"
    """Control mode of its published LIBERO checkpoints; LeRobot stores it with the environment, not the policy."""
    sites: tuple[Site, ...] = ()
    tower: tuple[str, ...] = ()
    """Dotted paths from the policy to the modules that encode images."""
    image_encoder: str = ""
    """Dotted path to the owner of `embed_image`, which encodes one camera's images."""
    rtc: bool = False
    """Whether its sampler takes LeRobot's real-time chunking."""
    dead: tuple[str, ...] = ()
    """Parameter name prefixes that inference never reads, so that they can be counted apart."""
    refusal: str = ""
    """Why this type cannot be driven from an `Observation`; empty when it can."""
    server: str = "openpi"
    """Kind of the policy behind whose server it runs instead, see `spec.policy.SERVER_KINDS`."""


def _paligemma(path: str) -> tuple[Site, ...]:
    return (
        Site("vision", "model.embed_prefix"),
        Site("prefix", f"model.{path}.forward", prefix_only=True),
        Site("denoise_step", "model.denoise_step"),
    )


_PALIGEMMA_TOWER = tuple(
    f"model.paligemma_with_expert.paligemma.model.{name}" for name in ("vision_tower", "multi_modal_projector")
)
_PALIGEMMA_HEADS = tuple(f"model.paligemma_with_expert.{name}.lm_head." for name in ("paligemma", "gemma_expert"))
_SINGLE_STEP = (
    "it returns single actions from a state of its own, not chunks, so a decision cannot be batched or resumed"
)

_ALL = (
    Family(
        "pi05",
        tested=True,
        nfe_key="num_inference_steps",
        nfe_route="argument",
        noise="argument",
        noise_fields=("chunk_size", "max_action_dim"),
        pads_cameras=True,
        dtype_field="dtype",
        sites=_paligemma("paligemma_with_expert"),
        tower=_PALIGEMMA_TOWER,
        image_encoder="model.paligemma_with_expert",
        dead=_PALIGEMMA_HEADS,
        rtc=True,
    ),
    Family(
        "pi0",
        tested=True,
        nfe_key="num_inference_steps",
        nfe_route="argument",
        noise="argument",
        noise_fields=("chunk_size", "max_action_dim"),
        pads_cameras=True,
        dtype_field="dtype",
        sites=_paligemma("paligemma_with_expert"),
        tower=_PALIGEMMA_TOWER,
        image_encoder="model.paligemma_with_expert",
        dead=_PALIGEMMA_HEADS,
        rtc=True,
    ),
    Family(
        "smolvla",
        tested=True,
        nfe_key="num_steps",
        noise="argument",
        noise_fields=("chunk_size", "max_action_dim"),
        pads_cameras=True,
        sites=_paligemma("vlm_with_expert"),
        tower=tuple(f"model.vlm_with_expert.vlm.model.{name}" for name in ("vision_model", "connector")),
        image_encoder="model.vlm_with_expert",
        dead=("model.vlm_with_expert.vlm.lm_head.",),
        rtc=True,
    ),
    Family(
        "diffusion",
        tested=True,
        nfe_key="num_inference_steps",
        nfe_route="attribute",
        nfe_path="diffusion.num_inference_steps",
        nfe_default_field="num_train_timesteps",
        noise="argument",
        noise_fields=("horizon", "action"),
        stepwise_draws=("noise_scheduler_type", "DDPM"),
        chunk_field="n_action_steps",
        observation_steps=True,
        keeps_frames=True,
        size_bound=True,
        sites=(
            Site("vision", "diffusion._prepare_global_conditioning"),
            Site("denoise_step", "diffusion.unet.forward"),
        ),
    ),
    Family("act", tested=True, noise="none", keeps_frames=True, sites=(Site("prefix", "model.forward"),)),
    Family("pi0_fast", pads_cameras=True, dtype_field="dtype"),
    Family(
        "groot",
        nfe_key="num_inference_timesteps",
        nfe_route="attribute",
        nfe_path="_groot_model.action_head.num_inference_timesteps",
        chunk_field="n_action_steps",
        refusal="LeRobot 0.6.1 builds it from NVIDIA's base model alone, which it fetches from the hub even to load a "
        "local checkpoint, so that neither random weights nor an offline node can be had",
        server="gr00t",
    ),
    Family("evo1", nfe_key="num_inference_timesteps", nfe_route="attribute",
           nfe_path="model.action_head.num_inference_timesteps"),
    Family("eo1", nfe_key="num_denoise_steps"),
    Family("molmoact2", nfe_key="num_inference_steps", nfe_route="argument"),
    Family("xvla", nfe_key="num_denoising_steps", dtype_field="dtype", control_mode="absolute",
           refusal="it reads the controller's own orientation, which an observation does not carry: measured in "
           "LIBERO, it is turned by 90 degrees about z against the observation's, and up to 0.3 degrees and 1.6 mm "
           "ahead of it"),
    Family("vla_jepa", nfe_key="num_inference_timesteps", nfe_route="attribute",
           nfe_path="model.action_model.num_inference_timesteps"),
    Family("fastwam", nfe_key="num_inference_steps", chunk_field="action_horizon",
           refusal="its checkpoint holds only part of the model, so that its weights cannot be verified"),
    Family("lingbot_va", nfe_key="action_num_inference_steps",
           refusal="it streams video through a cache of its own and serves one episode at a time"),
    Family("wall_x"),
    Family("multi_task_dit", nfe_key="num_inference_steps",
           refusal="it reads its observations from a queue of its own and cannot be batched over episodes"),
    Family("vqbet", refusal="it reads its observations from a queue of its own and cannot be batched over episodes"),
    Family("tdmpc", refusal=_SINGLE_STEP),
    Family("gaussian_actor", refusal=_SINGLE_STEP),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {family.type: family for family in _ALL}
"""Policy type → how it is driven."""

LIBERO_KEYS: Mapping[str, str] = {
    "agentview": "observation.images.image",
    "robot0_eye_in_hand": "observation.images.image2",
}
"""LIBERO camera → the key under which LeRobot's LIBERO environment shows it."""

CAMERA_ALIASES: Mapping[str, str | None] = {
    "image": "agentview",
    "image2": "robot0_eye_in_hand",
    "base_0_rgb": "agentview",
    "left_wrist_0_rgb": "robot0_eye_in_hand",
    "right_wrist_0_rgb": None,
    "camera1": "agentview",
    "camera2": "robot0_eye_in_hand",
    "wrist_image": "robot0_eye_in_hand",
    "image_wrist": "robot0_eye_in_hand",
    "agentview": "agentview",
    "eye_in_hand": "robot0_eye_in_hand",
    "agentview_image": "agentview",
    "robot0_eye_in_hand_image": "robot0_eye_in_hand",
}
"""Last part of an image key → the LIBERO camera that fine-tunes show under it, used when the checkpoint stores no
rename for it. None: a camera that LIBERO lacks and that openpi's LIBERO checkpoints mask out."""


def family_of(policy_type: str) -> Family:
    """Look a policy type up.

    Raises:
        UsageError: Unknown type, answered with the nearest known one.
    """
    if policy_type not in FAMILIES:
        raise unknown_name("LeRobot policy type", policy_type, FAMILIES)
    return FAMILIES[policy_type]
