"""Options of a `lerobot` policy, read once and checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from harness.errors import unknown_name
from harness.policies.options import Count, Device, PolicyOptions, Quantize, Seed, ServingOptions, read_options


class LerobotOptions(PolicyOptions):
    """What may follow the `?` of `lerobot:…`, or stand under `options:` in YAML."""

    weights: Literal["checkpoint", "random"] = "checkpoint"
    """"checkpoint": load what the path names. "random": the path is a policy type, built with random weights."""
    seed: Seed = 0
    """Seed of random weights."""
    device: Device = "auto"
    """"auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N"."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Parameter dtype, "float32" or "bfloat16"; None for what the checkpoint stores."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository; also written REPO@REVISION."""
    redirect: Literal["refuse", "follow"] = "refuse"
    """What to do when the hub serves another repository than the one asked for: "refuse" or "follow"."""
    env: str | None = None
    """Lock file of another stack: the policy is built and served in an environment of its own, made with uv."""
    versions: Literal["tested", "any"] = "tested"
    """"any": take whatever LeRobot and transformers are installed, and warn of those known to be wrong."""
    tokenizer: str | None = None
    """Tokenizer to use instead of the one the checkpoint names: a local folder or a hub id."""
    vlm: str | None = None
    """Folder of the vision-language model whose configuration and tokenizer SmolVLA fetches from the hub."""
    rename: str | None = None
    """Cameras by hand: "agentview=observation.images.top,robot0_eye_in_hand=observation.images.wrist". Further ones are
    "camera3", "camera4", …: with them a policy can be probed, not run."""
    frames: Literal["resize"] | None = None
    """"resize": frames are brought to the size that the checkpoint declares, as LeRobot's own policy server does it;
    None leaves them to the network, as lerobot-eval does."""
    snapflow: bool | None = None
    """Attach the SnapFlow target-time head to Pi0.5; None attaches it when the checkpoint has one."""
    compile: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None = None
    """torch.compile mode; None runs eagerly."""
    compile_scope: Literal["sampler", "parts"] = "sampler"
    """What is compiled. "sampler": the whole sampler, LeRobot's own way; its loop is unrolled, so each NFE compiles
    anew and components cannot be told apart. "parts": vision, prefix and denoise step, once each for every NFE."""
    graphs: bool = False
    """Replay vision, prefix and denoise step as CUDA graphs: the same kernels without the host's work between them."""
    quantize: Quantize | None = None
    """"int8": the weights of all linear layers in 8 bits; "int8-activations": their inputs too; None leaves them."""
    vision: Literal["float32", "tf32", "bfloat16", "float16"] | None = None
    """Precision of the vision tower: "float32", "tf32" (float32 weights), "bfloat16", "float16"; None leaves it."""
    merge_cameras: bool = False
    """Encode all cameras in one call of the vision tower instead of one call each."""
    cameras: Count | None = None
    """With random weights: how many cameras the policy reads. LIBERO has two; with more it can be probed, not run."""
    tf32: bool = True
    """Let fp32 matrix products use TF32 on CUDA, as lerobot-eval does."""
    nfe: Count | None = None
    """Default NFE; None for the number of steps the checkpoint stores."""
    n_action_steps: Count | None = None
    """Replan interval instead of the one the checkpoint stores."""
    config: dict[str, Any] = Field(default_factory=dict)
    """With random weights, any other option is a field of the policy's configuration, e.g. `empty_cameras=1`."""

    @property
    def camera_keys(self) -> dict[str, str]:
        """`rename` as camera → key of the policy."""
        pairs = [part.partition("=") for part in (self.rename or "").split(",") if part]
        return {camera.strip(): key.strip() for camera, _, key in pairs}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.cameras is not None and self.weights != "random":
            raise ValueError("cameras is for random weights; a checkpoint says which cameras it reads. Remove it.")
        if self.rename is not None and not all(self.camera_keys.values()):
            raise ValueError(f"rename is {self.rename!r}; write CAMERA=KEY, pairs separated by commas.")
        return self


def parse_options(given: Mapping[str, Any]) -> LerobotOptions:
    """Read the options of a policy spec.

    Raises:
        UsageError: Unknown option (answered with the nearest known one), or a value that the option does not take.
    """
    known = [name for name in LerobotOptions.model_fields if name != "config"]
    others = {name: value for name, value in given.items() if name not in known}
    if others and given.get("weights") != "random":
        raise unknown_name("option of a lerobot policy", sorted(others)[0], (*known, *ServingOptions.model_fields))
    named = {name: value for name, value in given.items() if name in known}
    return read_options(LerobotOptions, "lerobot", {**named, "config": others})
