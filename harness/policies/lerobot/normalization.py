"""What a checkpoint's processors will really do with each value, against what its configuration says.

LeRobot passes a value through unchanged when a step, a feature or a statistic is missing, and broadcasts a statistic of
another size: the policy then sees or answers raw values, and every episode fails without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from harness.errors import PolicyError
from harness.policies.lerobot.batch import STATE_KEY
from harness.policies.lerobot.processors import ACTION_KEY, Processors

IDENTITY = "IDENTITY"
READS: Mapping[str, tuple[str, ...]] = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
"""Normalisation mode → the statistics it reads (LeRobot 0.6.1, `processor/normalize_processor.py`)."""


class _Wanted(NamedTuple):
    """A value that has to be normalised."""

    key: str
    feature: Any
    mode: str
    """As the configuration says it."""
    pipeline: Any


def check_normalization(
    config: Any, processors: Processors, cameras: Iterable[str], checkpoint: str, *, strict: bool
) -> list[str]:
    """Refuse pipelines that would hand a value on unnormalised, or normalise it with something else.

    Args:
        config: The checkpoint's configuration.
        processors: The loaded pipelines.
        cameras: Image keys that the policy reads.
        checkpoint: Its name, for messages.
        strict: Whether the type is known to normalise in LeRobot's own steps, as its configuration says; types that
            this project does not test may have steps of their own.

    Returns:
        Warnings.

    Raises:
        PolicyError: Names every feature with its statistic and mode.
    """
    faults: list[str] = []
    warnings: list[str] = []
    for wanted in _wanted(config, processors, set(cameras)):
        steps = [step for step in wanted.pipeline.steps if hasattr(step, "_tensor_stats")]
        modes = {mode for step in steps if (mode := _mode(step, wanted)) != IDENTITY}
        if not modes and wanted.mode != IDENTITY and strict:
            faults.append(f"{wanted.key} is to be normalised by {wanted.mode}, but no step of its processors does it")
        elif modes - {wanted.mode} and strict:
            warnings.append(
                f"{wanted.key} is normalised by {', '.join(sorted(modes))}, as its processors say; its configuration "
                f"says {wanted.mode}."
            )
        faults += [fault for step in steps for fault in _faults(step, wanted)]
    if faults:
        raise PolicyError(
            f"{checkpoint} does not normalise as it says: {'; '.join(dict.fromkeys(faults))}. The policy would see or "
            "answer raw values. Save it again with its dataset's statistics."
        )
    return warnings


def _wanted(config: Any, processors: Processors, cameras: set[str]) -> Iterator[_Wanted]:
    mapping = {str(kind): mode.value for kind, mode in (getattr(config, "normalization_mapping", None) or {}).items()}
    read = {STATE_KEY, *cameras}
    for features, keys, pipeline in (
        (config.input_features, read, processors.pre),
        (config.output_features, {ACTION_KEY}, processors.post),
    ):
        for key, feature in features.items():
            if key in keys:
                yield _Wanted(key, feature, mapping.get(feature.type.value, IDENTITY), pipeline)


def _mode(step: Any, wanted: _Wanted) -> str:
    """What a step means to do to a value; actions it takes whether it lists them or not."""
    feature = wanted.feature if wanted.key == ACTION_KEY else step.features.get(wanted.key)
    only = step.normalize_observation_keys
    left_out = only is not None and wanted.key != ACTION_KEY and wanted.key not in only
    mode = None if feature is None or left_out else step.norm_map.get(feature.type)
    return IDENTITY if mode is None else str(mode.value)


def _faults(step: Any, wanted: _Wanted) -> Iterator[str]:
    mode = _mode(step, wanted)
    if mode == IDENTITY:
        return
    held: Mapping[str, torch.Tensor] = step._tensor_stats.get(wanted.key, {})
    size = int(wanted.feature.shape[0])
    for name in READS.get(mode, ()):
        if name not in held:
            yield f"{wanted.key} has no statistic {name}, which {mode} reads"
        elif not bool(torch.isfinite(held[name]).all()):
            yield f"the statistic {name} of {wanted.key}, which {mode} reads, is NaN or infinite"
        elif len(wanted.feature.shape) == 1 and held[name].numel() != size:
            yield f"the statistic {name} of {wanted.key} has {held[name].numel()} numbers, the feature {size}"
