"""Three Ray nodes that share no network but a switch: own addresses, hostnames and labels; one is cut off and returns.

The driver is on another machine than the head. Needs root: network namespaces, pairs of veth and a bridge.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import harness

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"),
]
NODES = {"head": "a100-sxm-80gb", "desk": "dgx-spark-gb10", "robot": "jetson-orin-nano-8gb"}
"""Hostname → label."""
SUITE = """
name: apart
description: A stub suite that keeps three nodes busy for half a minute.
world: stub
protocol: stub
tasks: [{suite: stub_slow, init_states: 12}]
policies: [noop]
"""
EPISODES = 120


class Network:
    """Namespaces around a switch, with a Ray node in each."""

    def __init__(self, folder: Path) -> None:
        """Wire it up."""
        self.folder, self.tag = folder, f"h{os.getpid()}"
        self.address = "10.77.0.1:6399"
        self.raylets: dict[str, subprocess.Popen[bytes]] = {}
        self._switch = f"{self.tag}-switch"
        self._ip("netns", "add", self._switch)
        self._ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        self._ip("-n", self._switch, "link", "set", "br0", "up")
        for place, name in enumerate(NODES, start=1):
            space = f"{self.tag}-{name}"
            self._ip("netns", "add", space)
            self._ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", name, "netns", self._switch)
            self._ip("-n", self._switch, "link", "set", name, "master", "br0", "up")
            self._ip("-n", space, "addr", "add", f"10.77.0.{place}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                self._ip("-n", space, "link", "set", device, "up")

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def inside(self, name: str, *command: str) -> list[str]:
        """A command on one of the machines."""
        named = ["unshare", "--uts", "sh", "-c", f'hostname {name}; exec "$@"', "sh", *command]
        return ["ip", "netns", "exec", f"{self.tag}-{name}", *named]

    def environment(self) -> dict[str, str]:
        """Variables for whatever runs here."""
        path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
        # Ray gives its processes 30 s, which a machine that is busy with something else may exceed.
        patience = {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "240"}
        return {**os.environ, **patience, "PYTHONPATH": path, "RAY_TMPDIR": str(self.folder)}

    def start(self, name: str) -> None:
        """Start the Ray node of a machine."""
        place = list(NODES).index(name) + 1
        role = ["--head", "--port=6399", "--include-dashboard=false"] if place == 1 else [f"--address={self.address}"]
        temporary = self.folder / name
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, "--block", "--num-cpus=1"]
        command += [f"--node-ip-address=10.77.0.{place}", f"--labels=hardware={NODES[name]}"]
        command += [f"--temp-dir={temporary}", "--disable-usage-stats", "--object-store-memory=100000000"]
        log = (self.folder / f"{name}.log").open("ab")
        self.raylets[name] = subprocess.Popen(
            self.inside(name, *command), env=self.environment(), stdout=log, stderr=log, start_new_session=True
        )

    def wait_for_nodes(self, n_nodes: int, limit_s: float = 300.0) -> None:
        """Wait until so many nodes are alive."""
        until = time.monotonic() + limit_s
        while self.alive() != n_nodes:
            assert time.monotonic() < until, "".join(log.read_text()[-800:] for log in self.folder.glob("*.log"))
            time.sleep(1)

    def alive(self) -> int:
        """Nodes that the head takes for alive."""
        code = (
            "from ray._raylet import GcsClient\n"
            f"infos = GcsClient(address='{self.address}').get_all_node_info()\n"
            "print(sum(info.state == 0 for info in infos.values()))"
        )
        asked = self.inside("head", sys.executable, "-c", code)
        told = subprocess.run(asked, env=self.environment(), capture_output=True, text=True, timeout=60, check=False)
        return int(told.stdout) if told.returncode == 0 else 0

    def plug(self, name: str, state: str) -> None:
        """Pull a machine's cable at the switch ("down"), or put it back ("up")."""
        self._ip("-n", self._switch, "link", "set", name, state)

    def run(self, out: str) -> subprocess.Popen[str]:
        """`harness run` on the desk, whose head is elsewhere."""
        (self.folder / "apart.yaml").write_text(SUITE)
        harness_command = [sys.executable, "-c", "from harness.cli import main; main()", "run", "apart.yaml"]
        command = self.inside("desk", *harness_command, "--out", out, "--address", self.address)
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def close(self) -> None:
        """Take everything away."""
        for node in self.raylets.values():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(node.pid)
                for child in (*process.children(recursive=True), process):
                    with contextlib.suppress(psutil.Error):
                        child.kill()
        for name in (*NODES, "switch"):
            space = f"{self.tag}-{name}"
            told = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
            for pid in told.stdout.split():
                with contextlib.suppress(psutil.Error):
                    psutil.Process(int(pid)).kill()
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    # Ray's sockets have no room for pytest's long paths.
    with tempfile.TemporaryDirectory(prefix="rn", dir="/tmp") as folder:
        made = Network(Path(folder))
        try:
            for name in NODES:
                made.start(name)
                made.wait_for_nodes(len(made.raylets))
            yield made
        finally:
            made.close()


def results(ledger: Path) -> dict[str, tuple[object, ...]]:
    """Episode → how it ended, to the bit."""
    rows = harness.read(ledger).episodes
    assert not rows.duplicated("episode_key").any()
    ended = (
        rows[["outcome", "steps", "decisions", "trajectory_sha256"]].astype(object).itertuples(index=False, name=None)
    )
    return dict(zip(rows["episode_key"], ended, strict=True))


@pytest.fixture(scope="module")
def calm(network: Network) -> dict[str, tuple[object, ...]]:
    """What an undisturbed run gives, on all three."""
    run = network.run("calm")
    told, _ = run.communicate(timeout=400)
    assert run.returncode == 0, told
    ledger = harness.read(network.folder / "calm")
    assert set(ledger.episodes["hardware"]) == set(NODES.values())
    hosts = {str(node).rpartition("-")[0] for node in ledger.episodes["node_id"]}
    assert hosts == set(NODES)
    return results(network.folder / "calm")


def wait_for_episodes(ledger: Path, run: subprocess.Popen[str], n_episodes: int) -> None:
    """Wait until the ledger holds so many."""
    until = time.monotonic() + 200
    while time.monotonic() < until:
        assert run.poll() is None, run.communicate()[0]
        with contextlib.suppress(Exception):
            if len(harness.read(ledger).episodes) >= n_episodes:
                return
        time.sleep(0.2)
    pytest.fail("no episodes")


def test_a_node_cut_off_for_seconds_goes_on_as_if_nothing_had_been(network: Network, calm) -> None:
    run = network.run("blink")
    wait_for_episodes(network.folder / "blink", run, 10)
    network.plug("robot", "down")
    time.sleep(4)
    network.plug("robot", "up")
    told, _ = run.communicate(timeout=400)
    assert run.returncode == 0, told
    assert "Traceback" not in told
    assert len(calm) == EPISODES
    assert results(network.folder / "blink") == calm


def test_a_node_cut_off_until_it_is_given_up_loses_nothing_and_may_return(network: Network, calm) -> None:
    run = network.run("cut")
    wait_for_episodes(network.folder / "cut", run, 10)
    network.plug("robot", "down")
    told, _ = run.communicate(timeout=500)
    assert run.returncode == 0, told
    assert "Traceback" not in told
    assert results(network.folder / "cut") == calm
    network.wait_for_nodes(len(NODES) - 1)
    network.plug("robot", "up")
    # Ray's node ends when it hears that it was given up; whoever keeps it (systemd, Kubernetes) starts it again.
    network.raylets["robot"].wait(timeout=120)
    network.start("robot")
    network.wait_for_nodes(len(NODES))
    again = network.run("again")
    told, _ = again.communicate(timeout=400)
    assert again.returncode == 0, told
    assert set(harness.read(network.folder / "again").episodes["hardware"]) == set(NODES.values())
    assert results(network.folder / "again") == calm
