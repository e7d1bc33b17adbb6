"""The identity of a LeRobot policy: its files by what they decide, apart from where they lie and on what they run."""

from __future__ import annotations

from typing import Any

from harness.policies.lerobot.cameras import CameraPlan
from harness.policies.lerobot.hub import Checkpoint
from harness.policies.lerobot.options import LerobotOptions
from harness.policies.lerobot.processors import POSTPROCESSOR_FILE, PREPROCESSOR_FILE
from harness.policies.lerobot.weights import file_sha256
from harness.spec.identity import NOTHING, PolicyIdentity, digest_of

NO_SETTINGS = (
    "device", "pretrained_path", "push_to_hub", "repo_id", "private", "tags", "license", "use_peft",
    "compile_model", "compile_mode", "gradient_checkpointing", "pretrained_backbone_weights",
)  # fmt: skip
"""Fields of a stored configuration that no action depends on; so are those that begin with `TRAINING`."""
TRAINING = ("optimizer_", "scheduler_")
ACTING = ("n_action_steps", "dtype", "quantize", "vision", "snapflow", "frames")
"""Options that change what the policy does by more than rounding."""


def checkpoint_identity(
    checkpoint: Checkpoint, stored: dict[str, Any], options: LerobotOptions, cameras: CameraPlan, weights_sha256: str
) -> PolicyIdentity:
    """Digest a checkpoint's parts as they are used: with the options that change what it does."""
    settings = {
        name: value for name, value in stored.items() if name not in NO_SETTINGS and not name.startswith(TRAINING)
    }
    pipelines = [checkpoint.json(name) or {} for name in (PREPROCESSOR_FILE, POSTPROCESSOR_FILE)]
    steps = [[_settings(step) for step in pipeline.get("steps", ())] for pipeline in pipelines]
    files = [step["state_file"] for pipeline in pipelines for step in pipeline.get("steps", ()) if "state_file" in step]
    return PolicyIdentity(
        weights_sha256,
        digest_of([settings, _acting(options)]),
        digest_of([steps, dict(cameras.keys), cameras.stored]),
        digest_of([file_sha256(checkpoint.folder / name) for name in files]) if files else NOTHING,
    )


def random_identity(recipe_sha256: str, options: LerobotOptions) -> PolicyIdentity:
    """The identity of random weights: that of the recipe they are drawn by, which holds the configuration."""
    return PolicyIdentity(recipe_sha256, digest_of(_acting(options)), NOTHING, NOTHING)


def _acting(options: LerobotOptions) -> dict[str, Any]:
    """The options that change what the policy does, where any is given."""
    return {name: value for name in ACTING if (value := getattr(options, name)) is not None}


def _settings(step: dict[str, Any]) -> dict[str, Any]:
    """A step without the device it ran on, and without its state, whose values count as statistics."""
    config = {name: value for name, value in (step.get("config") or {}).items() if name != "device"}
    return {"step": step.get("registry_name", step.get("class")), "config": config}
