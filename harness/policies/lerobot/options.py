"""Options of a `lerobot` policy, read once and checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from harness.errors import UsageError, unknown_name

WEIGHTS = ("checkpoint", "random")
DTYPES = ("float32", "bfloat16")
REDIRECTS = ("refuse", "follow")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
COMPILE_SCOPES = ("sampler", "parts")
QUANTIZATIONS = ("int8",)
VISION = ("float32", "tf32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class LerobotOptions:
    """What may follow the `?` of `lerobot:…`, or stand under `options:` in YAML."""

    weights: str = "checkpoint"
    """"checkpoint": load what the path names. "random": the path is a policy type, built with random weights."""
    seed: int = 0
    """Seed of random weights."""
    device: str = "auto"
    """"auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N"."""
    dtype: str | None = None
    """Parameter dtype, "float32" or "bfloat16"; None for what the checkpoint stores."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository; also written REPO@REVISION."""
    redirect: str = "refuse"
    """What to do when the hub serves another repository than the one asked for: "refuse" or "follow"."""
    tokenizer: str | None = None
    """Tokenizer to use instead of the one the checkpoint names: a local folder or a hub id."""
    vlm: str | None = None
    """Folder of the vision-language model whose configuration and tokenizer SmolVLA fetches from the hub."""
    rename: str | None = None
    """Cameras by hand: "agentview=observation.images.top,robot0_eye_in_hand=observation.images.wrist"."""
    snapflow: bool | None = None
    """Attach the SnapFlow target-time head to Pi0.5; None attaches it when the checkpoint has one."""
    compile: str | None = None
    """torch.compile mode, one of `COMPILE_MODES`; None runs eagerly."""
    compile_scope: str = "sampler"
    """What is compiled. "sampler": the whole sampler, LeRobot's own way; its loop is unrolled, so each NFE compiles
    anew and components cannot be told apart. "parts": vision, prefix and denoise step, once each for every NFE."""
    graphs: bool = False
    """Replay vision, prefix and denoise step as CUDA graphs: the same kernels without the host's work between them."""
    quantize: str | None = None
    """"int8": weights of all linear layers in 8 bits (torchao, weight-only); None leaves them."""
    vision: str | None = None
    """Precision of the vision tower: "float32", "tf32" (float32 weights), "bfloat16", "float16"; None leaves it."""
    merge_cameras: bool = False
    """Encode all cameras in one call of the vision tower instead of one call each."""
    cameras: int | None = None
    """With random weights: how many of LIBERO's cameras the policy reads."""
    tf32: bool = True
    """Let fp32 matrix products use TF32 on CUDA, as lerobot-eval does."""
    nfe: int | None = None
    """Default NFE; None for the number of steps the checkpoint stores."""
    n_action_steps: int | None = None
    """Replan interval instead of the one the checkpoint stores."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """With random weights, any other option is a field of the policy's configuration, e.g. `empty_cameras=1`."""

    @property
    def camera_keys(self) -> dict[str, str]:
        """`rename` as camera → key of the policy."""
        pairs = [part.partition("=") for part in (self.rename or "").split(",") if part]
        return {camera.strip(): key.strip() for camera, _, key in pairs}


_NAMES = tuple(entry.name for entry in fields(LerobotOptions) if entry.name != "config")


def parse_options(given: Mapping[str, Any]) -> LerobotOptions:
    """Read the options of a policy spec.

    Raises:
        UsageError: Unknown option (answered with the nearest known one), or a value that the option does not take.
    """
    named = {name: value for name, value in given.items() if name in _NAMES}
    others = {name: value for name, value in given.items() if name not in _NAMES}
    options = LerobotOptions(**named, config=others)
    if others and options.weights != "random":
        raise unknown_name("option of a lerobot policy", sorted(others)[0], _NAMES)
    _one_of("weights", options.weights, WEIGHTS)
    _one_of("redirect", options.redirect, REDIRECTS)
    if options.dtype is not None:
        _one_of("dtype", options.dtype, DTYPES)
    _integer("seed", options.seed, 0)
    for name, allowed in (("compile", COMPILE_MODES), ("quantize", QUANTIZATIONS), ("vision", VISION)):
        if getattr(options, name) is not None:
            _one_of(name, getattr(options, name), allowed)
    _one_of("compile_scope", options.compile_scope, COMPILE_SCOPES)
    for name in ("nfe", "n_action_steps", "cameras"):
        if getattr(options, name) is not None:
            _integer(name, getattr(options, name), 1)
    for name in ("snapflow", "tf32", "graphs", "merge_cameras"):
        if not isinstance(getattr(options, name), bool | None):
            raise UsageError(f"lerobot: {name} is {getattr(options, name)!r}; say true or false.")
    if options.cameras is not None and options.weights != "random":
        raise UsageError("lerobot: cameras is for random weights; a checkpoint says which cameras it reads. Remove it.")
    if options.rename is not None and not all(options.camera_keys.values()):
        raise UsageError(f"lerobot: rename is {options.rename!r}; write CAMERA=KEY, pairs separated by commas.")
    return options


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"lerobot: {name} is {value!r}; it is one of {', '.join(allowed)}.")


def _integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"lerobot: {name} is {value!r}; it is an integer of at least {least}.")
