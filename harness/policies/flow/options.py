"""Options of `flow`, and what can be known of a request before torch is imported."""

from __future__ import annotations

from typing import Literal

from harness.errors import NoPolicyError, UsageError
from harness.policies.flow.shipped import DEFAULT, find_checkpoint
from harness.policies.options import Count, Device, PolicyOptions, Quantize, Seed, read_options
from harness.policies.registry import PolicyRequest

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"


class FlowOptions(PolicyOptions):
    """What may follow the `?` of `flow…`, or stand under `options:` in YAML."""

    device: Device = "auto"
    """"auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N"."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Parameter dtype."""
    quantize: Quantize | None = None
    """"int8": the weights of all linear layers in 8 bits; "int8-activations": their inputs too; None leaves them."""
    graphs: bool | None = None
    """Replay vision, prefix and denoise step as CUDA graphs: the same kernels without the host's work between them.
    None: a policy server on CUDA does, if its answers stay equal."""
    rtc_horizon: Count | None = None
    """Under the clock `rtc`: how many of the old actions that are left a new chunk is guided to; None: all of them.
    Those that are executed before the answer is in hand always count."""
    weights: Literal["random"] | None = None
    """"random": build with random weights instead of loading any."""
    seed: Seed | None = None
    """Seed of random weights; None for 0."""


def parse_options(spec: PolicyRequest) -> FlowOptions:
    """Read the options of a policy spec.

    Raises:
        UsageError: An unknown option, a value that the option does not take, or a contradiction.
    """
    options = read_options(FlowOptions, "flow", spec.options)
    if options.weights is not None and spec.path is not None:
        raise UsageError(f"flow: random weights were asked for, but a checkpoint is given ({spec.path}).")
    if options.weights is None and options.seed is not None:
        raise UsageError("flow: option seed is for random weights; write flow?weights=random&seed=N.")
    return options


def check(spec: PolicyRequest, local: bool) -> None:
    """Check options and, on this machine, that the checkpoint's files are there.

    Raises:
        UsageError: See `parse_options`.
        NoPolicyError: No such checkpoint, or a file is missing.
    """
    options = parse_options(spec)
    if options.weights is not None or not (local or spec.path is None):
        return
    folder, _ = find_checkpoint(spec.path or DEFAULT)
    missing = [name for name in (WEIGHTS_FILE, CONFIG_FILE) if not (folder / name).is_file()]
    if missing:
        raise NoPolicyError(f"{folder} is no flow checkpoint: {' and '.join(missing)} missing.")
