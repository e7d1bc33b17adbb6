"""Which source a run was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import harness


def git_revision(directory: Path | None = None) -> str | None:
    """Commit of a checkout, with "-dirty" when its tracked files differ from it.

    Args:
        directory: The checkout; None for the one that this package runs from.

    Returns:
        40 hex digits, perhaps with the suffix; None outside a checkout (an installed wheel) or without git.
    """
    # A wheel's site-packages may lie inside somebody else's repository: only our own checkout counts.
    source = directory or Path(harness.__file__).resolve().parents[1]
    if not (source / ".git").exists():
        return None
    try:
        commit = _git(source, "rev-parse", "HEAD")
        return f"{commit}-dirty" if _git(source, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(source: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(source), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
