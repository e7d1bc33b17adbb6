"""Why a Ray cluster of one's own does not start, and how it may: looked at before and after, without Ray."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.cores import usable_cores
from harness.surroundings import SHARED_MEMORY, long_path_fault, ray_directory, shared_memory_fault

MIN_TEMP_BYTES = 500 * 10**6
"""Free space in the temporary directory that Ray's logs and spilled objects need."""
SLOW = ("timed out", "did not start", "failed to start", "took too long")


def space_fault(environ: Mapping[str, str], shm: Path = SHARED_MEMORY) -> str | None:
    """What is too small of shared memory and temporary directory, with figures and the remedy; None when both do."""
    folder = ray_directory(environ)
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return f"The temporary directory {str(folder)!r} is not a writable folder. Set RAY_TMPDIR to one."
    free = shutil.disk_usage(folder).free
    if free < MIN_TEMP_BYTES:
        return (
            f"Only {free / 1e6:.0f} MB are free in the temporary directory {str(folder)!r}; Ray needs "
            f"{MIN_TEMP_BYTES / 1e6:.0f} MB. Free some, or set RAY_TMPDIR to a folder that has them."
        )
    return shared_memory_fault(shm)


def home_is_writable() -> bool:
    """Whether Ray can keep its token in the home directory (`~/.ray`)."""
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return False
    return os.access(folder, os.W_OK)


def private_token(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for a cluster of one's own where Ray cannot keep a token: one that nobody else knows."""
    if {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(environ) or home_is_writable():
        return {}
    return {"RAY_AUTH_TOKEN": secrets.token_hex(32)}


ASK = """
import sys
from ray._private.services import get_ray_address_from_environment
from ray._raylet import GcsClient
address = get_ray_address_from_environment("auto", None) if sys.argv[1] == "auto" else sys.argv[1]
GcsClient(address=address).internal_kv_keys(b"none", namespace=None)
"""
ASK_S = 10.0


def joining_token(environ: Mapping[str, str], address: str) -> dict[str, str]:
    """Variables for joining a cluster: `ray start` asks for a token unless told not to, but only it assumes so.

    A driver that brings a token to a cluster without cannot be called back by it, so one that has a token asks first.
    """
    if "RAY_AUTH_MODE" in environ:
        return {}
    try:
        stored = (Path.home() / ".ray" / "auth_token").is_file()
    except (OSError, RuntimeError):
        stored = False
    has_token = stored or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(environ)
    return {"RAY_AUTH_MODE": "token"} if has_token and not _lets_in_without(environ, address) else {}


def _lets_in_without(environ: Mapping[str, str], address: str) -> bool:
    """Whether the cluster answers somebody without a token; asked in a process of its own, since Ray asks only once."""
    asked, variables = [sys.executable, "-c", ASK, address], {**environ, "RAY_AUTH_MODE": "disabled"}
    try:
        return subprocess.run(asked, env=variables, capture_output=True, timeout=ASK_S, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def explain_start(error: str, environ: Mapping[str, str]) -> str:
    """Name the likeliest cause of a failed start, and its remedy.

    Args:
        error: First line of what Ray said.
        environ: The environment that it started in.
    """
    known = long_path_fault(environ) or space_fault(environ)
    if known is not None:
        return f"{known[0].upper()}{known[1:]}" + ("" if known.endswith(".") else ".")
    load, cores = os.getloadavg()[0], usable_cores()
    if any(word in error for word in SLOW):
        return (
            f"Its processes did not answer in time: the load of this machine is {load:.1f} on {cores} cores. Try again "
            "when less is running, or give them longer: RAY_raylet_start_wait_time_s=600."
        )
    return "`harness doctor` looks for causes."


def explain_join(error: str, address: str) -> str | None:
    """What to do about a cluster that refuses this driver's token; None when the token is not the matter."""
    if "auth" not in error.lower():
        return None
    return (
        f"The Ray cluster at {address!r} wants a token, and this driver's is missing or wrong. Copy the head node's "
        "~/.ray/auth_token to the same place here, or set RAY_AUTH_TOKEN to its contents (RAY_AUTH_MODE=token)."
    )
