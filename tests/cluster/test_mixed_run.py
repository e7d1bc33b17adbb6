"""Simulation on this machine's cores, the policy behind `openpi://` on another machine: own address, no Ray, a token.

Needs root: a network namespace and a pair of veth stand for the other machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

pytest.importorskip("libero", reason="the extra `sim` is not installed")
pytest.importorskip("torch", reason="the extra `policies` is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]
HERE, THERE = "10.79.0.1", "10.79.0.2"
TOKEN = {"VLA_HARNESS_TOKEN": "of-this-test"}
SUITE = """
name: mixed
description: Two episodes of LIBERO, of a policy here and of the same one behind a server.
tasks: [{suite: libero_spatial, tasks: [0], init_states: 2}]
protocol: {preset: lerobot, max_steps: {libero_spatial: 120}}
"""
HARNESS = ("-c", "from harness.cli import main; main()")


@pytest.fixture
def machine() -> Iterator[str]:
    """A namespace with an address of its own; yields its name."""
    name = f"h{os.getpid()}-policy"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", f"v{os.getpid()}", "type", "veth", "peer", "eth0", "netns", name)
        ip("addr", "add", f"{HERE}/24", "dev", f"v{os.getpid()}")
        ip("link", "set", f"v{os.getpid()}", "up")
        ip("-n", name, "addr", "add", f"{THERE}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def server(machine: str, tmp_path: Path) -> Iterator[str]:
    """`harness serve` there; yields its address."""
    told = tmp_path / "serve.log"
    command = [sys.executable, *HARNESS, "serve", "--policy", "flow", "--host", THERE, "--port", "8000"]
    with told.open("w") as log:
        process = subprocess.Popen(
            ["ip", "netns", "exec", machine, *command], env={**os.environ, **TOKEN}, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 300
        while f"{THERE}:8000" not in told.read_text():
            assert process.poll() is None, told.read_text()
            assert time.monotonic() < until
            time.sleep(0.5)
        yield f"openpi://{THERE}:8000"
    finally:
        process.terminate()
        process.wait(60)


def test_a_policy_on_another_machine_gives_the_episodes_that_it_gives_here(server: str, tmp_path: Path) -> None:
    (tmp_path / "mixed.yaml").write_text(SUITE)
    command = [
        "run",
        "mixed.yaml",
        "--policy",
        server,
        "--policy",
        "flow",
        "--nfe",
        "1",
        "--workers",
        "2",
        "--out",
        "led",
    ]
    done = subprocess.run(
        [sys.executable, *HARNESS, *command],
        cwd=tmp_path,
        env={**os.environ, **TOKEN},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ledger = harness.read(tmp_path / "led")
    ends = ["episode_key", "outcome", "steps", "decisions", "trajectory_sha256"]
    rows = {str(policy): held[ends].sort_values("episode_key") for policy, held in ledger.episodes.groupby("policy_id")}
    (there,) = (policy for policy in rows if policy.startswith("openpi://"))
    assert rows[there].to_numpy().tolist() == rows["flow"].to_numpy().tolist()
    assert len(rows["flow"]) == 2
    asked = ledger.decisions[ledger.decisions["policy_id"] == there]
    assert (asked["transport_ms"] > 0).all()
    assert TOKEN["VLA_HARNESS_TOKEN"] not in done.stderr + done.stdout
