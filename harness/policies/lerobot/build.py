"""Build a `lerobot` policy: find, check, load, verify, wire. Each step that fails says what to do about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.errors import PolicyError, UsageError
from harness.policies.lerobot.batch import ObservationReader
from harness.policies.lerobot.cameras import CameraPlan, plan_cameras
from harness.policies.lerobot.check import refuse_type, require_path
from harness.policies.lerobot.configs import (
    examine,
    fit_to_libero,
    random_cameras,
    random_config,
    read_config,
    read_stored,
)
from harness.policies.lerobot.describe import (
    checkpoint_provenance,
    control_mode_of,
    declared_sizes,
    describe,
    frame_size_warnings,
    run_provenance,
)
from harness.policies.lerobot.families import FAMILIES, LIBERO_KEYS, Family, family_of
from harness.policies.lerobot.hub import WEIGHTS_FILE, find_checkpoint
from harness.policies.lerobot.identity import checkpoint_identity, random_identity
from harness.policies.lerobot.loading import Loaded, build_random, load_checkpoint
from harness.policies.lerobot.normalization import check_normalization
from harness.policies.lerobot.options import LerobotOptions, parse_options
from harness.policies.lerobot.policy import LeRobotPolicy
from harness.policies.lerobot.processors import Processors, load_processors, random_processors, stored_steps
from harness.policies.lerobot.variants import apply_variant
from harness.policies.lerobot.versions import check_versions, installed_version
from harness.policies.lerobot.weights import tensor_names
from harness.policies.registry import PolicyRequest
from harness.spec.action_space import ControlMode
from harness.spec.identity import PolicyIdentity


@dataclass(frozen=True, slots=True)
class _Parts:
    """Everything a policy is wired from."""

    family: Family
    config: Any
    cameras: CameraPlan
    processors: Processors
    loaded: Loaded
    name: str
    """What ledgers record as the checkpoint."""
    identity: PolicyIdentity
    control_mode: ControlMode
    provenance: dict[str, str]
    warnings: list[str]
    renames: Mapping[str, str] = field(default_factory=dict)
    """The checkpoint's own renames of image keys, where they apply."""


def build(spec: PolicyRequest, *, endpoint: str | None = None, cache_dir: Path | None = None) -> LeRobotPolicy:
    """Build the policy of `spec`.

    Args:
        spec: Path, options and label.
        endpoint: Address of the hub; None for the configured one.
        cache_dir: Folder of the hub cache; None for the configured one.

    Raises:
        UsageError: An unknown option or type, or a value that contradicts the checkpoint.
        PolicyError: The checkpoint cannot be fetched, read, verified or run here.
    """
    options = parse_options(spec.options)
    path = require_path(spec)
    cautions = check_versions(installed_version("lerobot"), installed_version("transformers"), options.versions)
    label = getattr(spec, "label", "") or f"lerobot:{path}"
    if options.weights == "random":
        parts = _at_random(path, options, label)
    else:
        parts = _from_checkpoint(path, options, label, endpoint, cache_dir)
    return _wire(parts, options, label, cautions)


def _at_random(policy_type: str, options: LerobotOptions, label: str) -> _Parts:
    family = _driven(policy_type, options, policy_type)
    if not family.tested:
        tested = ", ".join(name for name, known in FAMILIES.items() if known.tested)
        raise UsageError(f"lerobot:{policy_type} cannot be built with random weights; that is offered for {tested}.")
    config = random_config(family, options)
    shown, wanted = random_cameras(options.cameras), tuple(config.image_features)
    if len(shown) > len(LIBERO_KEYS) and not options.camera_keys:
        cameras = CameraPlan(shown, masked=tuple(key for key in wanted if key not in shown.values()))
    else:
        cameras = plan_cameras(wanted, {}, options.camera_keys, checkpoint=label)
    loaded = build_random(config, family, options, label)
    recipe = json.dumps(
        [policy_type, options.seed, options.snapflow, str(config), installed_version("torch"), "open gates"]
    )
    return _Parts(
        family,
        config,
        cameras,
        random_processors(config),
        loaded,
        f"random:{policy_type}:seed={options.seed}",
        random_identity(hashlib.sha256(recipe.encode()).hexdigest(), options),
        family.control_mode,
        {"policy_type": policy_type, "control_mode": family.control_mode},
        ["The weights are random: latency is meaningful, success is not."],
    )


def _from_checkpoint(
    path: str, options: LerobotOptions, label: str, endpoint: str | None, cache_dir: Path | None
) -> _Parts:
    refuse_type(path)
    checkpoint = find_checkpoint(
        path, options.revision, redirect=options.redirect, endpoint=endpoint, cache_dir=cache_dir
    )
    stored = read_stored(checkpoint)
    if stored["type"] not in FAMILIES:
        raise PolicyError(
            f"{checkpoint.name} is of type {stored['type']!r}, which this version does not drive (it drives "
            f"{', '.join(name for name, known in FAMILIES.items() if not known.refusal)}). Serve it with its own "
            "server and use openpi://HOST:PORT."
        )
    family = _driven(str(stored["type"]), options, checkpoint.name)
    # Cheap refusals first: building a model can take minutes.
    names = tensor_names(checkpoint.folder / WEIGHTS_FILE)
    config = read_config(checkpoint, family, options)
    warnings = [*checkpoint.warnings, *examine(config, stored, family, options)]
    steps = stored_steps(checkpoint)
    renames = steps.get("rename_observations_processor", {}).get("rename_map") or {}
    cameras = plan_cameras(tuple(config.image_features), renames, options.camera_keys, checkpoint=checkpoint.name)
    _require_cameras(cameras, family, checkpoint.name)
    processors = load_processors(config, checkpoint, options, steps, keep_renames=cameras.stored)
    warnings += frame_size_warnings(config, family)
    warnings += fit_to_libero(config, processors, checkpoint.name)
    shown = {renames.get(key, key) if cameras.stored else key for key in cameras.keys.values()}
    warnings += check_normalization(config, processors, shown, checkpoint.name, strict=family.tested)
    loaded = load_checkpoint(config, family, options, label, checkpoint, names)
    provenance = checkpoint_provenance(checkpoint, stored, family, options)
    identity = checkpoint_identity(checkpoint, stored, options, cameras, loaded.sha256)
    mode = control_mode_of(checkpoint, family)
    kept = renames if cameras.stored else {}
    parts = (family, config, cameras, processors, loaded, checkpoint.name, identity, mode, provenance, warnings)
    return _Parts(*parts, renames=kept)


def _driven(policy_type: str, options: LerobotOptions, name: str) -> Family:
    family = family_of(policy_type)
    if family.refusal:
        raise PolicyError(
            f"{name} is of type {family.type}, which this harness does not drive: {family.refusal}. Serve it with its "
            f"own server and use {family.server}://HOST:PORT{_mode_remedy(family)}."
        )
    if options.snapflow and family.type != "pi05":
        raise UsageError(f"lerobot: snapflow is an adapter for pi05, not for {family.type}; remove it.")
    return family


def _mode_remedy(family: Family) -> str:
    if family.control_mode == "relative":
        return ""
    return f"?control_mode={family.control_mode}, with `control_mode: {family.control_mode}` in the protocol"


def _require_cameras(cameras: CameraPlan, family: Family, checkpoint: str) -> None:
    missing = [key for key in cameras.masked if ".empty_camera_" not in key]
    if missing and not family.pads_cameras:
        example = f"?rename=agentview=…,robot0_eye_in_hand=…,camera3={missing[0]}"
        raise PolicyError(
            f"{checkpoint} reads {', '.join(missing)}, for which LIBERO has no camera, and {family.type} cannot do "
            f"without; use a checkpoint fine-tuned on LIBERO's two cameras. To probe it, name them all: {example}."
        )


def _policy_keys(parts: _Parts) -> dict[str, str]:
    """Camera → image key of the policy's configuration, behind the checkpoint's own renames."""
    return {camera: parts.renames.get(key, key) for camera, key in parts.cameras.keys.items()}


def _wire(parts: _Parts, options: LerobotOptions, label: str, cautions: tuple[str, ...]) -> LeRobotPolicy:
    info = describe(
        parts.config,
        parts.family,
        options,
        parts.loaded,
        label=label,
        checkpoint=parts.name,
        identity=parts.identity,
        cameras=tuple(parts.cameras.keys),
        control_mode=parts.control_mode,
    )
    device = torch.device(parts.config.device)
    apply_variant(parts.loaded.policy, parts.family, options, device)
    steps = int(parts.config.n_obs_steps) if parts.family.observation_steps else None
    return LeRobotPolicy(
        parts.loaded.policy,
        parts.family,
        parts.processors,
        ObservationReader(
            parts.cameras.keys,
            device,
            steps,
            declared_sizes(parts.config, _policy_keys(parts)) if options.frames == "resize" else None,
        ),
        info,
        target_time=parts.loaded.target_time,
        compiled=options.compile is not None,
        timed=options.compile is None or options.compile_scope == "parts",
        tf32=options.tf32,
        warnings=[*cautions, *parts.warnings, *parts.cameras.warnings, *parts.loaded.warnings],
        provenance=parts.provenance | run_provenance(parts.config, parts.family, options, parts.loaded, parts.cameras),
    )
