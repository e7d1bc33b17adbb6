"""Policies that run on the GPU that a label names: `python tests/benchmarks/bench_labelled_gpus.py`, on two GPUs.

Two Ray nodes of one host, each with one GPU (`CUDA_VISIBLE_DEVICES`) and a label of its own; the profiles that the
labels name are made here, copies of the GPU's. Two runs: one policy on each by the suite's `on`, over the stub world,
whose rows hold the identity (UUID) of the GPU that the policy really computed on; then, where LIBERO is installed and
there is time, `flow --on BOTH`, which is two policies. Exits 1 when a row says otherwise than it should. Without a GPU
the rows name what `CUDA_VISIBLE_DEVICES` says.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import harness
from harness.spec.observation import ActionChunks, PolicyInfo

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("first-gpu", "second-gpu")
SUITE = """
name: gpus
description: Two policies, each on the GPU that a label names.
world: stub
protocol: stub
tasks: [{suite: stub, tasks: [0, 1], init_states: 10}]
policies:
- {kind: python, path: "bench_labelled_gpus:OnGpu", label: one, on: [first-gpu]}
- {kind: python, path: "bench_labelled_gpus:OnGpu", label: other, on: [second-gpu]}
"""
LIBERO_SUITE = """
name: gpus-libero
description: A learned policy on each of two GPUs, over real LIBERO.
world: libero
protocol: lerobot
tasks: [{suite: libero_spatial, tasks: [0], init_states: 4}]
policies: [flow]
nfe: [1]
"""


class OnGpu:
    """Computes on the GPU that its process sees, and names it where a checkpoint's name stands."""

    def __init__(self, spec: Any) -> None:
        """Take the GPU, or, where there is none, the CPU."""
        import torch

        seen = torch.cuda.is_available()
        self._device = torch.device("cuda" if seen else "cpu")
        name = str(torch.cuda.get_device_properties(0).uuid) if seen else os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._weights = torch.ones(2048, 2048, device=self._device) / 2048
        self.info = PolicyInfo(spec.label, placement="server", checkpoint=name)

    def act(self, observations: Any, noise: Any, *, nfe: int | None = None) -> ActionChunks:
        """Ones, by way of the GPU."""
        value = float((self._weights @ self._weights)[0, 0] * 2048)
        return ActionChunks(np.full((len(observations), 1, 7), value, dtype=np.float32))


@contextlib.contextmanager
def two_nodes(folder: Path, cpus: int) -> Iterator[str]:
    """Two Ray nodes of this host, one GPU each; yields the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    try:
        for place, profile in enumerate(PROFILES):
            role = [f"--address={address}"]
            if not place:
                role = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false"]
            command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, "--node-ip-address=127.0.0.1"]
            command += [f"--labels=hardware={profile}", "--num-gpus=1", f"--num-cpus={cpus}", "--block"]
            command += ["--disable-usage-stats", "--object-store-memory=500000000"]
            with (folder / f"node-{place}.log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        command,
                        cwd=folder,
                        env={**os.environ, "CUDA_VISIBLE_DEVICES": str(place), "RAY_AUTH_MODE": "disabled"},
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
            if not place:
                wait_for_port(address)
        yield address
    finally:
        for node in started:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(node.pid)
                for child in (*process.children(recursive=True), process):
                    with contextlib.suppress(psutil.Error):
                        child.kill()
            node.wait()


def wait_for_port(address: str, limit_s: float = 120.0) -> None:
    """Wait until somebody listens there."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        if time.monotonic() > until:
            raise TimeoutError(address)
        time.sleep(0.2)


def wait_for_nodes(folder: Path, address: str, limit_s: float = 120.0) -> None:
    """Wait until `harness cluster status` sees both."""
    until = time.monotonic() + limit_s
    while True:
        done = run_harness(folder, "cluster", "status", "--address", address, "--json", "-")
        if done.returncode == 0 and {node["hardware"] for node in json.loads(done.stdout)["nodes"]} >= set(PROFILES):
            return
        if time.monotonic() > until:
            raise TimeoutError(done.stdout + done.stderr)


def run_harness(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a process of its own in a folder."""
    command = [sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )


def write_profiles(folder: Path, name: str) -> None:
    """Two profiles of the GPU that both are."""
    text = (ROOT / "hardware_profiles" / f"{name}.yaml").read_text()
    (folder / "hardware_profiles").mkdir()
    for profile in PROFILES:
        (folder / "hardware_profiles" / f"{profile}.yaml").write_text(text.replace(f"name: {name}", f"name: {profile}"))


def look(ledger: Path) -> dict[str, dict[str, Any]]:
    """Policy → what the rows say: hardware that decided, GPU that it names, episodes, solved, errors."""
    held = harness.read(ledger)
    told = {}
    for policy, rows in held.episodes.groupby("policy_id"):
        decisions = held.decisions[held.decisions["policy_id"] == policy]
        told[str(policy)] = {
            "decided_on": sorted(map(str, decisions["hardware"].unique())),
            "decisions": len(decisions),
            "checkpoint": sorted(map(str, rows["checkpoint"].unique())),
            "episodes": len(rows),
            "solved": int(rows["success"].sum()),
            "errors": int((rows["outcome"] == "error").sum()),
        }
    return told


def judge(told: dict[str, dict[str, Any]], wanted: dict[str, str], *, apart: bool) -> list[str]:
    """What is otherwise than it should be: policy → hardware; `apart`: they name different GPUs."""
    faults = [f"{policy} is missing" for policy in wanted if policy not in told]
    for policy, hardware in wanted.items():
        facts = told.get(policy, {})
        if facts and (facts["decided_on"] != [hardware] or facts["errors"] or not facts["decisions"]):
            faults.append(f"{policy} on {hardware}: {facts}")
    named = [name for facts in told.values() for name in facts["checkpoint"]]
    if apart and len(set(named)) != len(wanted):
        faults.append(f"the GPUs named are {named}")
    return faults


def main() -> None:
    """Run and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--profile", default="h100-sxm-80gb", help="What both GPUs are.")
    parser.add_argument("--cpus", type=int, default=max((os.cpu_count() or 2) // 2, 1), help="Of each Ray node.")
    parser.add_argument("--seconds", type=float, default=30.0, help="After which LIBERO is not begun.")
    parser.add_argument("--keep", type=Path, help="Folder to copy the ledgers to.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # So that a limit of time (`timeout`) lets it take away what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    result: dict[str, Any] = {"host": socket.gethostname(), "faults": []}
    with tempfile.TemporaryDirectory(prefix="gpus") as name:
        folder = Path(name)
        write_profiles(folder, options.profile)
        (folder / "gpus.yaml").write_text(SUITE)
        (folder / "libero.yaml").write_text(LIBERO_SUITE)
        with two_nodes(folder, options.cpus) as address:
            wait_for_nodes(folder, address)
            result["nodes_s"] = time.monotonic() - began
            done = run_harness(folder, "run", "gpus.yaml", "--out", "stub", "--address", address)
            if done.returncode:
                raise SystemExit(done.stdout + done.stderr)
            result["stub"] = look(folder / "stub")
            wanted = dict(zip(("one", "other"), PROFILES, strict=True))
            result["faults"] += judge(result["stub"], wanted, apart=True)
            result["stub_s"] = time.monotonic() - began
            if importlib.util.find_spec("libero") and result["stub_s"] < options.seconds:
                command = ("run", "libero.yaml", "--on", ",".join(PROFILES), "--out", "libero", "--address", address)
                done = run_harness(folder, *command)
                if done.returncode:
                    raise SystemExit(done.stdout + done.stderr)
                result["libero"] = look(folder / "libero")
                wanted = {f"flow on {profile}": profile for profile in PROFILES}
                result["faults"] += judge(result["libero"], wanted, apart=False)
        result["wall_s"] = time.monotonic() - began
        if options.keep:
            for ledger in ("stub", "libero"):
                if (folder / ledger).exists():
                    shutil.copytree(folder / ledger, options.keep / ledger)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    raise SystemExit(bool(result["faults"]))


if __name__ == "__main__":
    main()
