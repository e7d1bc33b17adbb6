"""Where a run's results come from: source revision and versions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import harness
from harness.latency.node import versions
from harness.sim.base import SuiteDescription


def git_revision() -> str | None:
    """Commit of the harness's own repository, with "-dirty" if files differ; None for an installed package."""
    package = Path(harness.__file__).resolve().parent
    root = _git(package, "rev-parse", "--show-toplevel")
    # An installed package may lie inside somebody else's repository, whose revision says nothing.
    if root is None or Path(root).resolve() != package.parent:
        return None
    return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def run_versions(descriptions: Iterable[SuiteDescription]) -> dict[str, str]:
    """Versions on the driver, and those that decide scores as the world states them."""
    found = dict(versions())
    for description in descriptions:
        found.update(description.versions)
    return found


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
