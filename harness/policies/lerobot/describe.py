"""What a loaded policy declares to the harness, and the record of where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch

from harness.errors import PolicyError, UsageError
from harness.policies.lerobot.cameras import CameraPlan
from harness.policies.lerobot.chunking import continues_chunks
from harness.policies.lerobot.configs import stored_nfe
from harness.policies.lerobot.families import Family
from harness.policies.lerobot.hub import TRAIN_CONFIG_FILE, Checkpoint, declared_version
from harness.policies.lerobot.loading import Loaded
from harness.policies.lerobot.options import LerobotOptions
from harness.policies.lerobot.processors import ACTION_KEY
from harness.policies.lerobot.sampling import SEED_WORDS
from harness.policies.lerobot.versions import installed_version
from harness.spec.action_space import ControlMode
from harness.spec.identity import PolicyIdentity
from harness.spec.observation import ANY_NFE, PolicyInfo


def describe(
    config: Any,
    family: Family,
    options: LerobotOptions,
    loaded: Loaded,
    *,
    label: str,
    checkpoint: str,
    identity: PolicyIdentity,
    cameras: tuple[str, ...],
    control_mode: ControlMode,
) -> PolicyInfo:
    """Declare a policy.

    Raises:
        UsageError: A replan interval longer than the chunk, or an NFE for a policy without a denoising loop.
    """
    chunk = int(getattr(config, family.chunk_field))
    if not 1 <= config.n_action_steps <= chunk:
        raise UsageError(f"lerobot: n_action_steps is {config.n_action_steps}; {checkpoint} answers {chunk} actions.")
    return PolicyInfo(
        policy_id=label,
        cameras=cameras,
        chunk_length=chunk,
        replan_interval=int(config.n_action_steps),
        nfe_options=_nfe_options(config, family),
        default_nfe=_default_nfe(config, family, options, loaded),
        noise_shape=_noise_shape(config, family),
        placement="server",
        control_mode=control_mode,
        checkpoint=checkpoint,
        dtype=_main_dtype(loaded.policy),
        observation_steps=int(config.n_obs_steps),
        frame_size=None if options.frames else _frame_size(config, family),
        frame_bound=family.size_bound and options.frames is None,
        rtc=continues_chunks(config, family, options),
        identity=identity,
    )


def _frame_size(config: Any, family: Family) -> tuple[int, int] | None:
    """(height, width) that a type which keeps frames as they come was trained on; None where it resizes them."""
    sizes = _kept_sizes(config, family)
    return sizes.pop() if len(sizes) == 1 else None


def frame_size_warnings(config: Any, family: Family) -> list[str]:
    """What to say of a type which keeps frames as they come and was trained on more than one size."""
    sizes = _kept_sizes(config, family)
    if len(sizes) < 2:
        return []
    told = " and ".join(f"{height}×{width}" for height, width in sorted(sizes))
    return [f"The checkpoint declares frames of {told} pixels; the protocol renders every camera in one size."]


def _kept_sizes(config: Any, family: Family) -> set[tuple[int, int]]:
    """Declared (height, width) of the cameras; none where the type resizes whatever it is shown."""
    # SmolVLA pads and resizes unless its configuration says null, Diffusion resizes where it says how.
    kept = family.keeps_frames or getattr(config, "resize_imgs_with_padding", ()) is None
    if not kept or getattr(config, "resize_shape", None):
        return set()
    shapes = (feature.shape[1:] for feature in config.image_features.values())
    return {(int(height), int(width)) for height, width in shapes}


def declared_sizes(config: Any, cameras: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Camera → (height, width) that the checkpoint declares for it.

    Args:
        config: The policy's configuration.
        cameras: Camera → image key.
    """
    shapes = {
        camera: config.image_features[key].shape for camera, key in cameras.items() if key in config.image_features
    }
    return {camera: (int(shape[1]), int(shape[2])) for camera, shape in shapes.items()}


def _default_nfe(config: Any, family: Family, options: LerobotOptions, loaded: Loaded) -> int | None:
    if family.nfe_key is None:
        if options.nfe is not None:
            raise UsageError(f"lerobot: nfe is {options.nfe}, but {family.type} has no denoising loop; remove it.")
        return None
    student = 1 if loaded.target_time is not None else None
    return options.nfe or student or stored_nfe(config, family)


def _nfe_options(config: Any, family: Family) -> tuple[int, ...]:
    if family.nfe_key is None:
        return ()
    if family.nfe_default_field is None:
        return ANY_NFE
    return tuple(range(1, int(getattr(config, family.nfe_default_field)) + 1))


def _noise_shape(config: Any, family: Family) -> tuple[int, ...] | None:
    if family.noise == "none":
        return None
    if family.noise == "intercepted":
        return (SEED_WORDS,)
    action = config.output_features[ACTION_KEY].shape[0]
    return tuple(action if name == "action" else int(getattr(config, name)) for name in family.noise_fields)


def _dtype_sizes(policy: Any) -> dict[str, int]:
    """Parameters by dtype, most first."""
    sizes: dict[torch.dtype, int] = {}
    for parameter in policy.parameters():
        sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
    ordered = sorted(sizes.items(), key=lambda item: -item[1])
    return {str(dtype).removeprefix("torch."): size for dtype, size in ordered}


def _main_dtype(policy: Any) -> str:
    return next(iter(_dtype_sizes(policy)))


def checkpoint_provenance(
    checkpoint: Checkpoint, stored: dict[str, Any], family: Family, options: LerobotOptions
) -> dict[str, str]:
    """Record where a checkpoint came from, and for each setting whether the checkpoint stores it."""
    train = checkpoint.json(TRAIN_CONFIG_FILE)
    mode = _stored_mode(train)
    facts = {
        "policy_type": family.type,
        "asked": checkpoint.asked,
        "served": checkpoint.served,
        "revision": checkpoint.revision,
        "asked_revision": checkpoint.asked_revision,
        "declared_lerobot": declared_version(train, stored) or "not declared",
        "control_mode": mode or family.control_mode,
        "control_mode_source": "checkpoint (train_config.json)" if mode else f"default of {family.type}",
        "replan_interval_source": _source("n_action_steps", stored, options.n_action_steps),
        "nfe_source": _source(family.nfe_key, stored, options.nfe) if family.nfe_key else "no denoising loop",
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def control_mode_of(checkpoint: Checkpoint, family: Family) -> ControlMode:
    """Control mode of a checkpoint: the one it was trained in, where it says so, else that of its type.

    Raises:
        PolicyError: It says another than there are.
    """
    mode = _stored_mode(checkpoint.json(TRAIN_CONFIG_FILE)) or family.control_mode
    for known in get_args(ControlMode):
        if mode == known:
            return known  # type: ignore[no-any-return]
    raise PolicyError(
        f"{checkpoint.name}: {TRAIN_CONFIG_FILE} says control mode {mode!r}, which is none of "
        f"{', '.join(get_args(ControlMode))}; mend it."
    )


def _stored_mode(train: dict[str, Any] | None) -> Any:
    environment = (train or {}).get("env")
    return environment.get("control_mode") if isinstance(environment, dict) else None


def _source(key: str, stored: dict[str, Any], option: int | None) -> str:
    if option is not None:
        return "option"
    return f"checkpoint ({key})" if key in stored else f"LeRobot's default of {key}"


def compile_text(options: LerobotOptions) -> str:
    """How a policy is compiled: "eager", "default" (the whole sampler), "default/parts", either with "+graphs"."""
    scope = "/parts" if options.compile_scope == "parts" else ""
    return (f"{options.compile}{scope}" if options.compile else "eager") + ("+graphs" if options.graphs else "")


def run_provenance(
    config: Any, family: Family, options: LerobotOptions, loaded: Loaded, cameras: CameraPlan
) -> dict[str, str]:
    """Record how a policy runs here: versions, device, cameras, parameters in memory and in use."""
    total = dead = 0
    for name, parameter in loaded.policy.named_parameters():
        total += parameter.numel()
        dead += parameter.numel() if family.dead and name.startswith(family.dead) else 0
    facts = {
        **{package: installed_version(package) or "" for package in ("lerobot", "transformers", "torch")},
        "device": str(config.device),
        "tf32": str(options.tf32),
        "compile": compile_text(options),
        "quantize": options.quantize or "no",
        "vision": options.vision or "as loaded",
        "merge_cameras": str(options.merge_cameras),
        "cameras": ", ".join(f"{camera} → {key}" for camera, key in cameras.keys.items()),
        "parameters": str(total),
        "parameters_functional": str(total - dead),
        "dtypes": ", ".join(f"{dtype} {size}" for dtype, size in _dtype_sizes(loaded.policy).items()),
        "weights": loaded.weights,
    }
    steps = stored_nfe(config, family)
    return facts | ({"snapflow": loaded.head} if loaded.head else {}) | ({"stored_nfe": str(steps)} if steps else {})
