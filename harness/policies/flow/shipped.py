"""Checkpoints that come with the harness: `flow` and `flow:student`, from a fresh clone and from a wheel."""

from __future__ import annotations

from pathlib import Path

from harness.errors import NoPolicyError
from harness.spec.resolve import resource_dirs

DEFAULT = "teacher"
"""What `flow` without a path loads."""


def shipped() -> dict[str, Path]:
    """Name → folder of every shipped checkpoint; `./checkpoints/flow/NAME` shadows the package's."""
    found: dict[str, Path] = {}
    for root in resource_dirs("checkpoints"):
        for config in sorted(root.glob("flow/*/config.json")):
            found.setdefault(config.parent.name, config.parent)
    return found


def find_checkpoint(name: str) -> tuple[Path, str]:
    """Resolve what stands after `flow:`.

    Args:
        name: A folder, or the name of a shipped checkpoint.

    Returns:
        The folder, and how ledgers name the checkpoint: the same on every machine for a shipped one.

    Raises:
        NoPolicyError: Neither; the message names the shipped ones.
    """
    path = Path(name).expanduser()
    known = {} if path.is_dir() or "/" in name else shipped()
    if name in known:
        return known[name], f"vla-harness/flow-{name}"
    if not path.is_dir():
        raise NoPolicyError(
            f"flow: there is no folder {path} and no shipped checkpoint of that name (shipped: "
            f"{', '.join(sorted(shipped())) or 'none'}). Random weights: flow?weights=random."
        )
    return path.resolve(), str(path.resolve())
