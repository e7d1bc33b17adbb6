"""A `lerobot` policy in an environment of its own: another LeRobot and transformers than the ones installed here.

`lerobot:X?env=LOCKFILE` makes the environment with uv, once for each content of the lock file, and serves the policy
from a process of it over openpi's protocol on the loopback interface. So two stacks run side by side, on the same
episodes, in one run or gate.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import harness
from harness.errors import PolicyError
from harness.policies.lerobot.check import require_lock
from harness.policies.openpi.client import OpenPiPolicy, connect
from harness.policies.openpi.options import OpenpiOptions
from harness.policies.registry import PolicyRequest
from harness.policies.servers.address import Address

NEEDS = ("websockets>=15", "msgpack>=1.1", "pydantic>=2.9", "pyyaml>=6", "packaging>=24", "pillow>=11", "psutil>=6")
"""What the serving end of this package needs beside the stack."""
CLONE_UV = Path(harness.__file__).parents[1] / ".uv" / "bin"
"""Where `make setup` puts uv in a clone, if it is not on the path."""
SERVER = "harness.serve.stack"
SHOWN = 12
"""Lines of a failed command that are repeated."""


def serve_from_stack(spec: PolicyRequest, lock: str, label: str) -> OpenPiPolicy:
    """Build a policy in the environment of a lock file; its process ends with this one, or when it is closed.

    Args:
        spec: Path and options of the policy.
        lock: Lock file, in the format of `pip` and `uv pip compile`.
        label: Name of the policy in ledgers.

    Raises:
        PolicyError: The environment cannot be made, or the policy cannot be built in it; repeats what was said there.
        NoPolicyError: There is no such lock file.
    """
    file = require_lock(lock)
    python = environment(file, cache_folder(os.environ))
    options = {name: value for name, value in spec.options.items() if name != "env"}
    process, told = _start(
        python, {"kind": spec.kind, "path": spec.path, "options": {**options, "versions": "any"}}, label
    )
    policy = connect(Address("127.0.0.1", int(told["port"])), OpenpiOptions(), label=label, token=None)
    # One process holds the weights: a policy server's, and not one for each worker.
    policy.info = replace(policy.info, placement="server", remote=False)
    stack = {str(name): str(version) for name, version in told["versions"].items()}
    policy.provenance = {**policy.provenance, "env": _digest(file)[:16]}
    policy.warnings = (*policy.warnings, f"It runs in an environment of its own: {_listed(stack)}.")
    weakref.finalize(policy, _end, process)
    return policy


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where environments are kept."""
    general = Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vla-harness"
    return Path(env.get("VLA_HARNESS_CACHE") or general).expanduser() / "stacks"


def environment(lock: Path, folder: Path) -> Path:
    """The Python of a lock file's environment, which is made if it is not there whole.

    Raises:
        PolicyError: uv is missing, or cannot make it.
    """
    place = folder / _digest(lock)[:16]
    python, whole = place / "bin" / "python", place / "whole"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{place.name}.lock"):
        if whole.is_file():
            return python
        uv = shutil.which("uv") or shutil.which("uv", path=str(CLONE_UV))
        if uv is None:
            raise PolicyError("lerobot: env needs uv to make an environment; install it (`pip install uv`).")
        base = getattr(sys, "_base_executable", sys.executable)
        _run([uv, "venv", "--quiet", "--clear", "--python", base, str(place)], f"make the environment of {lock}")
        install = [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(lock), *NEEDS]
        _run(install, f"install {lock}")
        whole.touch()
    return python


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PolicyError(f"lerobot: cannot {what}: {_last(done.stderr)}")


def _start(python: Path, request: Mapping[str, Any], label: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the far end; returns when it listens."""
    # Only this package is lent to the other environment, whatever lies beside it.
    lent = Path(tempfile.mkdtemp(prefix="vla-harness-"))
    (lent / "harness").symlink_to(Path(harness.__file__).parent)
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    process = subprocess.Popen(
        [str(python), "-m", SERVER, json.dumps({**request, "label": label})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**env, "PYTHONPATH": str(lent)},
    )
    weakref.finalize(process, shutil.rmtree, lent, True)
    said: list[str] = []
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018
    reader = threading.Thread(target=_collect, args=(process.stderr, said), daemon=True)
    reader.start()
    for line in process.stdout:
        if line.startswith("{"):
            threading.Thread(target=_collect, args=(process.stdout, []), daemon=True).start()
            told: dict[str, Any] = json.loads(line)
            if "error" in told:
                _end(process)
                raise PolicyError(f"{label}, in its own environment: {told['error']}")
            return process, told
    process.wait()
    reader.join(5.0)
    raise PolicyError(f"{label}: its own environment ended without an answer: {_last(''.join(said))}")


def _collect(stream: IO[str], into: list[str]) -> None:
    for line in stream:
        into.append(line)
        del into[:-200]


def _end(process: subprocess.Popen[str]) -> None:
    """Close its standard input, upon which it ends; one that does not is made to."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()


def _digest(lock: Path) -> str:
    lines = sorted(line.strip() for line in lock.read_text().splitlines() if line.strip() and not line.startswith("#"))
    return hashlib.sha256("\n".join([*lines, *NEEDS, f"{sys.version_info[:2]}"]).encode()).hexdigest()


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _last(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return " | ".join(lines[-SHOWN:]) or "it said nothing"
