"""The far end of `lerobot:X?env=LOCKFILE`: serves one policy from another environment until its parent hangs up.

    python -m harness.serve.stack '{"kind": "lerobot", "path": …, "options": {…}, "label": …}'

Prints one line of JSON: {"port": …, "versions": {…}}, or {"error": …}. Ends when standard input does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

from harness.errors import HarnessError
from harness.policies.registry import make_policy
from harness.serve.service import PolicyService
from harness.serve.sizing import BatchPlan
from harness.serve.websocket import run_server
from harness.spec.policy import PolicySpec
from harness.time_source import WallTime

STACK = ("lerobot", "transformers", "torch", "numpy")
"""Packages whose versions are told."""


def main(request: str) -> int:
    """Serve the policy of a request."""
    out = sys.stdout
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        # What a library prints is no answer.
        with redirect_stdout(sys.stderr):
            policy = make_policy(PolicySpec(**json.loads(request)))
    except HarnessError as error:
        _tell(out, {"error": str(error)})
        return 1
    service = PolicyService(policy, BatchPlan(1, 0.0, {}, "one near end"), clock=WallTime(), hardware=None)

    def ready(address: object) -> None:
        port = int(str(address).rpartition(":")[2])
        _tell(out, {"port": port, "versions": _versions()})

    run_server(service, "127.0.0.1", 0, token=None, on_ready=ready)
    return 0


def _tell(out: TextIO, answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer) + "\n")
    out.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _versions() -> dict[str, str]:
    found = {}
    for name in STACK:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
