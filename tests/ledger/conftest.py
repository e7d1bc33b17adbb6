"""A server that speaks S3, started by the tests: moto's, in an environment of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

MOTO = "moto[s3,server]==5.2.5"
"""Not in the lock: it wants an older python-dateutil than the rest. `uv tool run` keeps it in an environment aside."""
START_S = 90
"""The first start downloads it."""
UV = Path(__file__).parents[2] / "scripts" / "uv"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Address of a server that speaks S3, on loopback."""
    uv = subprocess.run([UV], capture_output=True, text=True, check=True).stdout.strip()
    command = [uv, "tool", "run", "--quiet", "--python", "3.12", "--from", MOTO, "moto_server", "-H", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "-p", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    limit = threading.Timer(START_S, server.kill)
    limit.start()
    try:
        lines = server.stderr or []
        told = []
        for line in lines:
            told.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                limit.cancel()
                threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()
                yield found[0]
                return
        pytest.skip(f"moto's S3 server cannot be had: {''.join(told)[-300:]}")
    finally:
        limit.cancel()
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty bucket of that server."""
    name = re.sub(r"[^a-z0-9]+", "-", tmp_path.name.lower()).strip("-")
    for variable, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(variable, value)
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/{name}", method="PUT")).close()  # noqa: S310
    return f"s3://{name}"
