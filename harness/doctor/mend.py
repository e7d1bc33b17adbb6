"""`harness doctor --fix`: the remedies that change one pinned package of this environment, and nothing else."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.doctor.check import Check, CheckStatus
from harness.errors import UsageError

TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Mended:
    """One remedy that was tried."""

    name: str
    """Of the check."""
    command: str
    fault: str | None
    """The last line of what the installer said; None when it did it."""


def mend(checks: Sequence[Check], run: Callable[[Sequence[str]], str | None] | None = None) -> list[Mended]:
    """Carry out what checks state as their `fix`, one after the other.

    Args:
        checks: Results; those that are well, or have nothing that is safe to do, are left alone.
        run: Runs a command and returns what went wrong.

    Raises:
        UsageError: This Python is no virtual environment, which others may use too.
    """
    todo = [check for check in checks if check.status is not CheckStatus.OK and check.fix]
    if not todo:
        return []
    if sys.prefix == sys.base_prefix:
        raise UsageError(
            f"--fix changes packages of a virtual environment only, and {sys.prefix} is none. Make one "
            "(`uv venv --python 3.12`), or run the commands that the doctor prints yourself."
        )
    runner = run or run_command
    return [Mended(check.name, " ".join(check.fix), runner(installer_command(check.fix))) for check in todo]


def installer_command(fix: Sequence[str]) -> list[str]:
    """The command that does ("pip", "install", …) in this very environment: pip's own, or uv's where there is no pip.

    Raises:
        UsageError: Neither is there.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", *fix]
    uv = shutil.which("uv")
    if uv is None:
        raise UsageError("--fix needs pip in this environment, or uv on the PATH; neither is there.")
    return [uv, *fix[:2], "--python", sys.executable, *(word.replace("--force-", "--") for word in fix[2:])]


def run_command(command: Sequence[str]) -> str | None:
    """Run an installer; None when it did what it was asked, else its last line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return None if done.returncode == 0 else said[-1]
