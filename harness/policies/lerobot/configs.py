"""Configurations: built for random weights, or read from a checkpoint and brought to this machine and to LIBERO."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from harness.errors import NoPolicyError, PolicyError, UsageError, unknown_name
from harness.policies.lerobot.batch import STATE_KEY
from harness.policies.lerobot.families import LIBERO_KEYS, Family
from harness.policies.lerobot.hub import (
    ADAPTER_FILE,
    CONFIG_FILE,
    NO_CHECKPOINT,
    TRAIN_CONFIG_FILE,
    Checkpoint,
    declared_version,
    first_line,
)
from harness.policies.lerobot.options import LerobotOptions
from harness.policies.lerobot.processors import ACTION_KEY, Processors, statistic_size
from harness.policies.lerobot.versions import installed_version
from harness.spec.observation import ACTION_DIM

STATE_DIM = 8
RANDOM_RESOLUTION = 256
"""Frame size that policies with random weights declare, pixels."""


def config_class(policy_type: str) -> Any:
    """LeRobot's configuration class of a policy type."""
    import lerobot.policies  # noqa: F401  (registers every policy type)
    from lerobot.configs.policies import PreTrainedConfig

    return PreTrainedConfig.get_choice_class(policy_type)


def device_name(asked: str) -> str:
    """Resolve the `device` option. LeRobot would switch to another device in silence.

    Raises:
        UsageError: No such device here.
    """
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise UsageError(f"lerobot: device {asked!r} is not one of auto, cpu, cuda, cuda:N.") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"lerobot: device {asked!r} is not one of auto, cpu, cuda, cuda:N.")
    found = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= found:
        raise UsageError(f"lerobot: device {asked!r} was asked for, but torch sees {found} CUDA devices; use cpu.")
    return asked


def random_cameras(count: int | None) -> dict[str, str]:
    """Cameras of random weights and their image keys: LIBERO's two first, then ones that a probe alone can show.

    Args:
        count: How many; None for LIBERO's.
    """
    more = {f"camera{n}": f"observation.images.image{n}" for n in range(len(LIBERO_KEYS) + 1, (count or 0) + 1)}
    return dict([*LIBERO_KEYS.items(), *more.items()][:count])


def random_config(family: Family, options: LerobotOptions) -> Any:
    """Configure a policy with random weights: LIBERO's state, action and cameras, or as many cameras as asked for.

    Raises:
        UsageError: An option that the type's configuration has no field for, or a value that it refuses.
    """
    from lerobot.configs.types import FeatureType, PolicyFeature

    build = config_class(family.type)
    known = {field.name for field in dataclasses.fields(build)}
    fields = {**options.config, **_overrides(family, options, known)}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise unknown_name(f"option of lerobot:{family.type}", unknown[0], known)
    frame = PolicyFeature(FeatureType.VISUAL, (3, RANDOM_RESOLUTION, RANDOM_RESOLUTION))
    inputs = dict.fromkeys(random_cameras(options.cameras).values(), frame)
    try:
        return build(
            input_features={**inputs, STATE_KEY: PolicyFeature(FeatureType.STATE, (STATE_DIM,))},
            output_features={ACTION_KEY: PolicyFeature(FeatureType.ACTION, (ACTION_DIM,))},
            device=device_name(options.device),
            **fields,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"lerobot:{family.type} does not take these options: {error}.") from error


def read_stored(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read a checkpoint's `config.json` as it is.

    Raises:
        NoPolicyError: It is no LeRobot checkpoint.
        PolicyError: It is a PEFT adapter.
    """
    if (checkpoint.folder / ADAPTER_FILE).is_file():
        raise PolicyError(f"{checkpoint.name} is a PEFT adapter; merge it into its base policy and give the result.")
    stored = checkpoint.json(CONFIG_FILE)
    if stored is None or "type" not in stored:
        raise NoPolicyError(NO_CHECKPOINT.format(checkpoint.name))
    return stored


def read_config(checkpoint: Checkpoint, family: Family, options: LerobotOptions) -> Any:
    """Parse a checkpoint's configuration with LeRobot and apply the options.

    Raises:
        PolicyError: LeRobot refuses it, e.g. because another version wrote it.
        UsageError: An option that the policy type has no field for.
    """
    from lerobot.configs.policies import PreTrainedConfig

    config_class(family.type)
    try:
        config = PreTrainedConfig.from_pretrained(str(checkpoint.folder))
    except Exception as error:
        declared = declared_version(checkpoint.json(TRAIN_CONFIG_FILE), checkpoint.json(CONFIG_FILE) or {})
        said = f"; it declares LeRobot {declared}" if declared else ""
        raise PolicyError(
            f"{checkpoint.name}: {CONFIG_FILE} does not fit LeRobot {installed_version('lerobot')}{said} "
            f"({_cause(error)}). Mend its {CONFIG_FILE}, or use a checkpoint saved by LeRobot 0.6."
        ) from error
    config.device = device_name(options.device)
    config.pretrained_path = checkpoint.folder
    known = {field.name for field in dataclasses.fields(config)}
    for name, value in _overrides(family, options, known).items():
        setattr(config, name, value)
    return config


def _cause(error: BaseException) -> str:
    """What made LeRobot refuse: its parser hides the configuration's complaint behind "Couldn't instantiate class"."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error).rstrip(".")


def _overrides(family: Family, options: LerobotOptions, known: set[str]) -> dict[str, Any]:
    """Configuration fields that the options set, or that this harness always sets."""
    fields: dict[str, Any] = {}
    if "pretrained_backbone_weights" in known:
        # Every weight comes from the checkpoint (verified) or is random, so ImageNet's need not be downloaded first.
        fields["pretrained_backbone_weights"] = None
    whole = options.compile is not None and options.compile_scope == "sampler"
    if "compile_model" in known:
        fields["compile_model"] = whole
    elif whole:
        raise UsageError(
            f"lerobot: {family.type} cannot be compiled by LeRobot; add compile_scope=parts, or remove compile."
        )
    if whole:
        fields["compile_mode"] = options.compile
    if options.dtype is not None and family.dtype_field is not None:
        fields[family.dtype_field] = options.dtype
    if options.n_action_steps is not None:
        fields["n_action_steps"] = options.n_action_steps
    if options.vlm is not None:
        if "vlm_model_name" not in known:
            raise UsageError(f"lerobot: vlm is for policies that fetch a backbone; {family.type} fetches none.")
        fields["vlm_model_name"] = options.vlm
    return fields


def examine(config: Any, stored: dict[str, Any], family: Family, options: LerobotOptions) -> Iterator[str]:
    """Say what does not come from the checkpoint as it is stored, and refuse what cannot be honoured.

    Yields:
        Warnings.

    Raises:
        PolicyError: Temporal ensembling, or a window of observations that the type is not driven with.
    """
    if not family.tested:
        yield f"Policy type {family.type} runs with its declared settings; this project does not test it."
    if "n_action_steps" not in stored and options.n_action_steps is None:
        yield f"The checkpoint stores no n_action_steps; LeRobot's default {config.n_action_steps} is used."
    if family.nfe_key is not None and family.nfe_key not in stored and options.nfe is None:
        yield f"The checkpoint stores no {family.nfe_key}; LeRobot's default {stored_nfe(config, family)} is used."
    if stored.get("compile_model") and options.compile is None:
        yield "The checkpoint asks for torch.compile, which is off here so that components can be timed; see compile=."
    if (rtc := getattr(config, "rtc_config", None)) is not None and rtc.enabled:
        rtc.enabled = False
        yield "The checkpoint enables real-time chunking, which is used under the clock rtc only; it is off otherwise."
    if getattr(config, "use_relative_actions", False):
        yield "Actions are relative to the state at the decision; lerobot-eval adds the state of every step instead."
    if getattr(config, "temporal_ensemble_coeff", None) is not None:
        raise PolicyError(
            "The checkpoint uses temporal ensembling, which mixes overlapping chunks step by step and cannot be served "
            "as chunks; set temporal_ensemble_coeff to null in its config.json to evaluate it without."
        )
    if config.n_obs_steps > 1 and not family.observation_steps:
        raise PolicyError(
            f"The checkpoint looks at {config.n_obs_steps} steps, which {family.type} is not driven with."
        )


def fit_to_libero(config: Any, processors: Processors, checkpoint: str) -> Iterator[str]:
    """Refuse a checkpoint for another robot.

    A fine-tune of a padded base model may keep the base's 32 numbers in its configuration; its statistics tell then.

    Yields:
        Warnings, one for each feature whose declared size was corrected.

    Raises:
        PolicyError: State or action of another size than LIBERO's.
    """
    from lerobot.configs.types import FeatureType, PolicyFeature

    for key, wanted, features, padded, kind, pipeline in (
        (STATE_KEY, STATE_DIM, config.input_features, "max_state_dim", FeatureType.STATE, processors.pre),
        (ACTION_KEY, ACTION_DIM, config.output_features, "max_action_dim", FeatureType.ACTION, processors.post),
    ):
        if key not in features:
            continue
        size = features[key].shape[0]
        if size == getattr(config, padded, None) != wanted and statistic_size(pipeline, key) == wanted:
            features[key] = PolicyFeature(kind, (wanted,))
            yield f"{key} is declared with the padded size {size}; its statistics have {wanted}, which is used."
        elif size != wanted:
            raise PolicyError(
                f"{checkpoint} is for another robot: its {key} has {size} numbers, LIBERO's has {wanted}. Use a "
                "checkpoint fine-tuned on LIBERO."
            )


def stored_nfe(config: Any, family: Family) -> int | None:
    """Number of denoising steps that a configuration asks for; None for policies without a loop."""
    value = getattr(config, family.nfe_key or "", None)
    if value is None and family.nfe_default_field is not None:
        value = getattr(config, family.nfe_default_field)
    return None if value is None else int(value)
