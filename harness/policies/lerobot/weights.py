"""Proof that a checkpoint's tensors are the ones in the model: LeRobot's loaders swallow errors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.errors import PolicyError

SHOWN = 6
"""Tensor names that an error spells out."""


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """What was verified."""

    tensors: int
    """Tensors of the file that were compared with the model, value by value."""
    sha256: str
    """Digest of the file."""
    ignored: tuple[str, ...] = ()
    """Tensors of the file that have no place in the model and were allowed to be left out."""


class _Name(str):
    """A tensor's name standing for the tensor while LeRobot renames keys."""

    __slots__ = ()

    def clone(self) -> _Name:
        return self


def file_sha256(path: Path) -> str:
    """Digest of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensor_names(path: Path) -> tuple[str, ...]:
    """Names in a safetensors file, in the order LeRobot reads them.

    Raises:
        PolicyError: The file is missing, truncated or no safetensors file.
    """
    if not path.is_file():
        raise PolicyError(f"{path.parent} has no {path.name}, so there is nothing to load; check the checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            return tuple(file.keys())
    except (SafetensorError, OSError) as error:
        raise PolicyError(f"{path} is truncated or corrupted ({error}); fetch the checkpoint again.") from error


def renamed(policy: Any, names: Sequence[str]) -> dict[str, str]:
    """Map tensors of the model to tensors of the file, by LeRobot's own renaming.

    Args:
        policy: A LeRobot policy; Pi0, Pi0.5 and Pi0-FAST rename keys of older checkpoints as they load.
        names: Names in the file.

    Returns:
        Model name → file name. The last file name wins, as it does in LeRobot.
    """
    fix = getattr(policy, "_fix_pytorch_state_dict_keys", None)
    if fix is None:
        return {name: name for name in names}
    fixed: Mapping[str, str] = fix({name: _Name(name) for name in names}, policy.config)
    return {key if key.startswith("model.") else f"model.{key}": str(source) for key, source in fixed.items()}


def verify(
    policy: Any,
    path: Path,
    *,
    expected_sha256: str | None = None,
    may_ignore: Iterable[str] = (),
    may_lack: Iterable[str] = (),
    rename: Mapping[str, str] | None = None,
) -> WeightsReport:
    """Compare every tensor of a checkpoint with the model it was loaded into.

    A tensor agrees when the file's values, cast to the parameter's dtype, are equal to it to the bit. Model tensors
    that share memory with a loaded one (tied heads) count as loaded.

    Args:
        policy: The loaded LeRobot policy.
        path: Its `model.safetensors`.
        expected_sha256: Digest that the hub states for the file; None when it states none.
        may_ignore: Tensors of the file that may stay unused.
        may_lack: Tensors of the model that the file may lack.
        rename: Model name → file name for tensors that LeRobot does not know.

    Raises:
        PolicyError: Names the tensors that are missing, unexpected, of another shape, or different in value.
    """
    names = tensor_names(path)
    sources = {**renamed(policy, names), **(rename or {})}
    state: dict[str, Tensor] = policy.state_dict()
    ignored = tuple(sorted(set(names) - {sources[key] for key in state if key in sources}))
    missing = [key for key in state if key not in sources]
    problems = _list("not in the file", _without_aliases(state, missing, may_lack))
    problems += _list("not in the model", [name for name in ignored if name not in set(may_ignore)])
    pairs = {key: sources[key] for key in state if key in sources}
    differing, infinite = _compare(state, pairs, path)
    problems += differing
    if infinite:
        raise PolicyError(
            f"{path} holds weights that are NaN or infinite: {_list('not finite', infinite)[0]}. Training diverged, or "
            "the file is damaged; use an earlier checkpoint."
        )
    if problems:
        raise PolicyError(
            f"{path} was not loaded whole: {'; '.join(problems)}. The policy would act with random weights; use a "
            "checkpoint written for this configuration and LeRobot version."
        )
    sha256 = file_sha256(path)
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise PolicyError(
            f"{path} has sha256 {sha256}, the hub states {expected_sha256}: the download is damaged; delete it and "
            "fetch it again."
        )
    return WeightsReport(len(pairs), sha256, ignored)


def _without_aliases(state: Mapping[str, Tensor], missing: Sequence[str], may_lack: Iterable[str]) -> list[str]:
    """Leave out tensors that are views of a loaded one; a tensor of no elements has nothing to load."""
    lacking = set(missing)
    loaded = {_storage(tensor) for key, tensor in state.items() if key not in lacking}
    allowed = set(may_lack)
    return [key for key in missing if state[key].numel() and _storage(state[key]) not in loaded and key not in allowed]


def _storage(tensor: Tensor) -> tuple[str, int, tuple[int, ...]]:
    return str(tensor.device), tensor.data_ptr(), tuple(tensor.shape)


def _compare(state: Mapping[str, Tensor], pairs: Mapping[str, str], path: Path) -> tuple[list[str], list[str]]:
    """What differs from the file, in words, and the tensors that are not finite there."""
    shapes: list[str] = []
    values: list[str] = []
    infinite: list[str] = []
    try:
        with safe_open(path, framework="pt") as file:
            for key, source in pairs.items():
                loaded, stored = state[key], file.get_tensor(source)
                if loaded.shape != stored.shape:
                    shapes.append(f"{key} {tuple(loaded.shape)} against {tuple(stored.shape)} in the file")
                elif not torch.equal(loaded, stored.to(device=loaded.device).to(loaded.dtype)):
                    finite = not stored.is_floating_point() or bool(torch.isfinite(stored).all())
                    (values if finite else infinite).append(key)
    except (SafetensorError, OSError) as error:
        raise PolicyError(f"{path} is truncated or corrupted ({error}); fetch the checkpoint again.") from error
    return _list("of another shape", shapes) + _list("different in value", values), infinite


def _list(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"]
