"""A checkpoint's own pre- and post-processor, checked: LeRobot passes values through when a statistic is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from harness.errors import PolicyError
from harness.policies.lerobot.hub import Checkpoint
from harness.policies.lerobot.options import LerobotOptions
from harness.policies.lerobot.standins import PALIGEMMA_VOCABULARY, SMOLVLM_VOCABULARY, without_hub

PREPROCESSOR_FILE = "policy_preprocessor.json"
POSTPROCESSOR_FILE = "policy_postprocessor.json"
ACTION_KEY = "action"


@dataclass(frozen=True, slots=True)
class Processors:
    """The two pipelines of a policy."""

    pre: Any
    post: Any


def stored_steps(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Registry name → configuration of the steps in a checkpoint's preprocessor file.

    Raises:
        PolicyError: The checkpoint has no preprocessor: it was written before LeRobot 0.5.
    """
    for name in (PREPROCESSOR_FILE, POSTPROCESSOR_FILE):
        if checkpoint.json(name) is None:
            raise PolicyError(
                f"{checkpoint.name} has no {name}: it was saved before LeRobot kept processors beside the weights. "
                "Convert it with `python -m lerobot.processor.migrate_policy_normalization`."
            )
    steps = (checkpoint.json(PREPROCESSOR_FILE) or {}).get("steps", [])
    return {str(step.get("registry_name", step.get("class"))): dict(step.get("config") or {}) for step in steps}


def load_processors(
    config: Any, checkpoint: Checkpoint, options: LerobotOptions, steps: Mapping[str, Any], *, keep_renames: bool
) -> Processors:
    """Load the pipelines that were saved with the checkpoint.

    Raises:
        PolicyError: A step or a tokenizer cannot be built.
    """
    from lerobot.policies.factory import make_pre_post_processors

    overrides: dict[str, dict[str, Any]] = {"device_processor": {"device": config.device}}
    if not keep_renames:
        overrides["rename_observations_processor"] = {"rename_map": {}}
    tokenizer = options.tokenizer or options.vlm
    if tokenizer is not None:
        overrides["tokenizer_processor"] = {"tokenizer_name": tokenizer}
    try:
        pre, post = make_pre_post_processors(
            config,
            pretrained_path=str(checkpoint.folder),
            preprocessor_overrides={name: value for name, value in overrides.items() if name in steps},
            postprocessor_overrides={},
        )
    except Exception as error:
        wanted = tokenizer or steps.get("tokenizer_processor", {}).get("tokenizer_name")
        remedy = f" Its tokenizer is {wanted!r}: give a local copy with tokenizer=FOLDER." if wanted else ""
        raise PolicyError(f"The processors of {checkpoint.name} cannot be built ({_short(error)}).{remedy}") from error
    return Processors(pre, post)


def random_processors(config: Any) -> Processors:
    """Build the pipelines of a policy with random weights: statistics that change nothing, a stand-in tokenizer."""
    from lerobot.policies.factory import make_pre_post_processors

    features = {**config.input_features, **config.output_features}
    statistics = {key: _identity(feature.shape) for key, feature in features.items()}
    with without_hub(SMOLVLM_VOCABULARY if config.type == "smolvla" else PALIGEMMA_VOCABULARY):
        pre, post = make_pre_post_processors(config, dataset_stats=statistics)
    return Processors(pre, post)


def _identity(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Statistics under which every normalisation mode maps [-1, 1] to itself; images keep one value per channel."""
    size = (shape[0], 1, 1) if len(shape) == 3 else tuple(shape)
    zeros, ones = torch.zeros(size), torch.ones(size)
    low = dict.fromkeys(("min", "q01", "q10"), -ones)
    high = dict.fromkeys(("max", "q99", "q90"), ones)
    return {"mean": zeros, "std": ones, **low, **high}


def statistic_size(pipeline: Any, key: str) -> int | None:
    """Length of the statistics that a pipeline holds for a feature; None when it holds none."""
    for step in pipeline.steps:
        for tensor in getattr(step, "_tensor_stats", {}).get(key, {}).values():
            if tensor.ndim == 1 and tensor.numel() > 1:
                return int(tensor.numel())
    return None


def _short(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
