"""Why a Ray cluster of one's own does not start, and how it may: looked at before and after, without Ray."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from harness.cores import usable_cores
from harness.errors import NodeError
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
REFUSED = "InvalidAuthToken"
"""What Ray logs, once a second, when it is not let in."""


class Reply(StrEnum):
    """How a cluster receives somebody who asks."""

    LET_IN = "let in"
    REFUSED = "refused"
    """It wants a token, or another one."""
    SILENT = "silent"


def joining_token(environ: Mapping[str, str], address: str) -> dict[str, str]:
    """Variables for joining a cluster: `ray start` asks for a token unless told not to, but only it assumes so.

    A driver that brings a token to a cluster without cannot be called back by it, and one that is refused goes on
    trying for half a minute, so the cluster is asked first.

    Raises:
        NodeError: The cluster wants a token, and this driver has none, or another one.
    """
    held = token_source(environ)
    modes = ["disabled", *(["token"] if held else [])] if "RAY_AUTH_MODE" not in environ else [environ["RAY_AUTH_MODE"]]
    for mode in modes:
        reply = ask({**environ, "RAY_AUTH_MODE": mode}, address)
        if reply != Reply.REFUSED:
            return {"RAY_AUTH_MODE": mode} if mode == "token" and "RAY_AUTH_MODE" not in environ else {}
    raise NodeError(refusal(environ, address))


def token_source(environ: Mapping[str, str]) -> str | None:
    """Where Ray would find a token here; None where it would find none."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        if environ.get(name):
            return name
    try:
        return "~/.ray/auth_token" if (Path.home() / ".ray" / "auth_token").is_file() else None
    except (OSError, RuntimeError):
        return None


def ask(environ: Mapping[str, str], address: str) -> Reply:
    """Ask a cluster for something, in a process of its own, since Ray reads its environment only once."""
    process = subprocess.Popen(
        [sys.executable, "-c", ASK, address],
        env=dict(environ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    limit = threading.Timer(ASK_S, process.kill)
    limit.start()
    try:
        if any(REFUSED in line for line in process.stderr or ()):
            return Reply.REFUSED
        return Reply.LET_IN if process.wait() == 0 else Reply.SILENT
    finally:
        limit.cancel()
        process.kill()
        process.communicate()


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
    return refusal(os.environ, address) if "auth" in error.lower() else None


def refusal(environ: Mapping[str, str], address: str) -> str:
    """Why a cluster that wants a token lets nobody in from here, and what to do."""
    wants, held = f"The Ray cluster at {address!r} wants a token", token_source(environ)
    if held and environ.get("RAY_AUTH_MODE") == "disabled":
        return f"{wants}, and RAY_AUTH_MODE=disabled keeps the one in {held} back. Unset it."
    ours = f"the one in {held} here is not its own" if held else "this driver has none"
    return (
        f"{wants}, and {ours}. Copy the head node's ~/.ray/auth_token to the same place here, or set RAY_AUTH_TOKEN to "
        "its contents."
    )
