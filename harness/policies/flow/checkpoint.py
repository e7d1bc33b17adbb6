"""Weights of `flow`: random ones from a seed, and folders of `model.safetensors` and `config.json`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from harness.errors import PolicyError
from harness.policies.flow.network import FlowConfig, FlowNetwork
from harness.policies.flow.options import CONFIG_FILE, WEIGHTS_FILE
from harness.strict_json import read_json

FORMAT = "vla-harness-flow"
FORMAT_VERSION = 1


def initialize(network: FlowNetwork, generator: torch.Generator) -> None:
    """Fill every parameter from `generator`, in order of name.

    Convolutions He, linear layers 1/sqrt(fan_in), embeddings and positions 0.02, norms one, biases zero; time's
    modulation starts near the identity.
    """
    for name, parameter in sorted(network.named_parameters()):
        if "norm" in name:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "position" in name or "modulation" in name or "words" in name or "time_out" in name:
            nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            gain = 2.0 if parameter.ndim == 4 else 1.0
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, std=math.sqrt(gain / fan_in), generator=generator)


def empty_network(config: FlowConfig) -> FlowNetwork:
    """Build a network whose weights are to be set, with default statistics; the global generator is left as it was.

    Not on the meta device, which costs a second: torch imports its compiler for it.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return FlowNetwork(config)


def random_network(config: FlowConfig, seed: int) -> FlowNetwork:
    """Build a network with random weights from `seed`."""
    network = empty_network(config)
    initialize(network, torch.Generator().manual_seed(seed))
    return network


def serialize(network: FlowNetwork) -> bytes:
    """Serialise weights and statistics as a safetensors file; equal weights give equal bytes."""
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()})


def load_network(path: Path) -> tuple[FlowNetwork, str]:
    """Load a folder written by `save_pretrained`.

    Returns:
        The network and the sha256 of its weights file.

    Raises:
        PolicyError: A file is missing or does not parse, or tensors are missing, unexpected or of another shape
            (each named): a partly loaded policy is never returned.
    """
    weights, config_file = path / WEIGHTS_FILE, path / CONFIG_FILE
    missing = [file.name for file in (weights, config_file) if not file.is_file()]
    if missing:
        raise PolicyError(f"{path} is no flow checkpoint: {' and '.join(missing)} missing.")
    network = empty_network(_read_config(config_file))
    data = weights.read_bytes()
    try:
        tensors = load_tensors(data)
    except SafetensorError as error:
        raise PolicyError(f"{weights} does not parse as safetensors ({error}); copy it again.") from error
    _check_tensors(weights, tensors, network.state_dict())
    # Copying into the float32 parameters widens float16 weights without a change of value.
    network.load_state_dict(tensors)
    return network, hashlib.sha256(data).hexdigest()


def _read_config(path: Path) -> FlowConfig:
    try:
        values = read_json(path.read_bytes())
    except ValueError as error:
        raise PolicyError(f"{path} does not parse as JSON ({error}).") from error
    if not isinstance(values, dict) or (values.pop("format", None), values.pop("version", None)) != (
        FORMAT,
        FORMAT_VERSION,
    ):
        raise PolicyError(f"{path} does not say format {FORMAT!r}, version {FORMAT_VERSION}: not a flow checkpoint.")
    known = {field.name for field in fields(FlowConfig)}
    # Checkpoints of version 1 that were written before students existed lack the key, and are none.
    values.setdefault("target_time", False)
    if set(values) != known:
        raise PolicyError(
            f"{path}: unknown keys {sorted(set(values) - known)}, missing keys {sorted(known - set(values))}."
        )
    try:
        return FlowConfig(**values)
    except (TypeError, ZeroDivisionError) as error:
        raise PolicyError(f"{path} holds a value of the wrong type ({error}).") from error


def _check_tensors(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    problems = [f"missing {name}" for name in sorted(set(expected) - set(found))]
    problems += [f"unexpected {name}" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(expected) & set(found)):
        if found[name].shape != expected[name].shape:
            problems.append(f"{name} is {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}")
        elif not bool(torch.isfinite(found[name]).all()):
            problems.append(f"{name} is not finite")
    if problems:
        more = f" (and {len(problems) - 8} more)" if len(problems) > 8 else ""
        raise PolicyError(f"{path} does not fit its config.json: {'; '.join(problems[:8])}{more}.")


def save_network(network: FlowNetwork, path: Path, *, dtype: str = "float32") -> None:
    """Write a checkpoint that `flow:PATH` loads.

    Args:
        network: Network whose parameters and configuration are written.
        path: Folder, made if absent.
        dtype: Of the stored weights: "float32", or "float16" for half the size (relative error 5e-4). Statistics are
            stored in float32.

    Raises:
        PolicyError: A weight is too large for float16.
    """
    path.mkdir(parents=True, exist_ok=True)
    stored = getattr(torch, dtype)
    tensors = {}
    for name, tensor in network.state_dict().items():
        kept = torch.float32 if name.startswith("normalization.") else stored
        tensors[name] = tensor.detach().cpu().to(kept).contiguous()
        if not bool(torch.isfinite(tensors[name]).all()):
            raise PolicyError(f"{name} is not finite in {dtype}; train longer with less, or store float32.")
    (path / WEIGHTS_FILE).write_bytes(save_tensors(tensors))
    config = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(network.config)}
    (path / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
