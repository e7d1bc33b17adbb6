"""What Ray and the hub's cache need of the machine around them: short paths, shared memory, a home, room on a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOCKET_LIMIT = 107
"""Longest path of a Unix socket on Linux, bytes (`sun_path` of unix(7), less its final zero)."""
LONGEST_SOCKET = "/ray/session_2026-11-26_12-00-00_000000_4194304/sockets/plasma_store"
"""What Ray appends to its temporary directory (ray 2.50, `_private/node.py`), with the longest process id of Linux."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
SHARED_MEMORY_BYTES = 256 * 2**20
"""What a run's object store takes: frames of a few dozen decisions; Ray's default would be a third of the memory."""


def ray_directory(env: Mapping[str, str]) -> Path:
    """Where Ray keeps sockets, logs and what it spills: RAY_TMPDIR, else TMPDIR, else /tmp, as Ray itself chooses."""
    return Path(env.get("RAY_TMPDIR") or env.get("TMPDIR") or "/tmp")  # noqa: S108 - Ray's own default


def long_path_fault(env: Mapping[str, str]) -> str | None:
    """Why Ray's sockets cannot be made in its directory; None when they can."""
    place = str(ray_directory(env))
    length = len(os.fsencode(place + LONGEST_SOCKET))
    if length <= SOCKET_LIMIT:
        return None
    longest = SOCKET_LIMIT - len(LONGEST_SOCKET)
    return (
        f"Ray's directory {place} has {len(os.fsencode(place))} characters, and the path of a socket may have "
        f"{SOCKET_LIMIT}: set RAY_TMPDIR to a path of at most {longest} characters, e.g. RAY_TMPDIR=/tmp"
    )


def shared_memory_fault(place: Path = SHARED_MEMORY) -> str | None:
    """Why a run's object store does not fit into shared memory; None when it does, or where there is none."""
    if not place.is_dir():
        return None
    free = shutil.disk_usage(place).free
    if free >= SHARED_MEMORY_BYTES:
        return None
    return (
        f"{place} has {free / 2**20:.0f} MiB free, a run needs {SHARED_MEMORY_BYTES / 2**20:.0f}: make it larger "
        "(docker run --shm-size=1g; in Kubernetes an emptyDir of medium Memory), or remove what other programs left "
        "there"
    )


def home_fault(env: Mapping[str, str]) -> str | None:
    """Why the home directory cannot be used; None when it can. Ray and the libraries of policies write there."""
    home = env.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(home):
        return "there is no home directory (HOME is not set): set HOME to a directory that can be written to"
    if not os.path.isdir(home):
        return f"the home directory {home} does not exist: set HOME to a directory that can be written to"
    try:
        with tempfile.TemporaryFile(dir=home):  # of a read-only file system, permissions say nothing
            pass
    except OSError:
        return f"the home directory {home} cannot be written to: set HOME to a directory that can"
    return None


def hub_cache(env: Mapping[str, str]) -> Path:
    """Where checkpoints from the hub are kept, as huggingface_hub itself chooses.

    HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else
    ~/.cache/huggingface/hub.
    """
    named = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    general = env.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named or os.path.join(env.get("HF_HOME") or f"{general}/huggingface", "hub")).expanduser()


def free_bytes(place: Path) -> int:
    """Bytes that are free where a directory is or will be."""
    return shutil.disk_usage(existing(place)).free


def existing(place: Path) -> Path:
    """The directory itself, or the nearest above it that is there."""
    place = place.absolute()
    return next(each for each in (place, *place.parents) if each.is_dir())
