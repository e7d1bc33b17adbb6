"""An edge box: it measures and serves policies without Ray and without LIBERO, and says so of what needs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from test_less_installed import BLOCKER, POLICIES, SIM, harness_without

import harness
from harness.policies.registry import make_policy
from harness.schedule.keys import decision_noise
from harness.spec import parse_policy
from harness.spec.observation import Observation

ROOT = Path(__file__).parents[2]
QUICK = "--launches 1 --min-seconds 0.1 --min-samples 5"


@contextmanager
def served(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Address of a `harness serve` that lives for the length of a `with` block."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(environment), cwd=folder
    ) as server:
        try:
            told, lines = "", server.stdout or []
            address = None
            for line in lines:
                told += line
                if address := re.search(r"Serving .* at (openpi://127\.0\.0\.1:\d+)", line):
                    break
            assert address, told
            yield address[1]
        finally:
            server.kill()


def decide(policy: str, noise: np.ndarray) -> np.ndarray:
    """What a policy decides of one grey observation."""
    frame = np.full((128, 128, 3), 127, np.uint8)
    seen = Observation("wave", np.zeros(8, np.float32), {"agentview": frame, "robot0_eye_in_hand": frame})
    made = make_policy(parse_policy(policy))
    if made.info.noise_shape is None:
        noise = None
    chunks = made.act([seen], noise)
    return np.asarray(chunks.actions)


def test_it_probes_without_ray_libero_and_torch(tmp_path: Path) -> None:
    lines = [f"probe --policy random {QUICK} --out edge", "run smoke -p noop --address 127.0.0.1:1 --out r"]
    probe, run = harness_without((*SIM, *POLICIES, "ray"), lines, tmp_path)
    assert probe[1] == 0, probe[0]
    ledger = harness.read(tmp_path / "edge")
    assert len(ledger.latency) >= 5
    assert "ray" not in ledger.nodes["versions"][0]
    assert run[1] == 3
    assert "Ray, which runs episodes, is not installed here: pip install 'vla-harness[cluster]'" in run[0]
    assert "Traceback" not in run[0]


def test_it_serves_without_ray_libero_and_torch_what_is_decided_here(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "WITHOUT": ",".join((*SIM, *POLICIES, "ray"))}
    command = [sys.executable, "-c", "from harness.cli import main; main()", "serve", "-p", "random", "--port", "0"]
    noise = decision_noise("ab" * 32, 0, (10, 7))[np.newaxis]
    with served(command, environment, tmp_path) as address:
        np.testing.assert_array_equal(decide(address, noise), decide("random", noise))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fresh_environment_with_the_policies_alone_probes_and_serves_flow(tmp_path: Path) -> None:
    """What a Jetson installs, on this machine: the package from its own wheel, outside of the repository."""
    uv = subprocess.run([ROOT / "scripts" / "uv"], capture_output=True, text=True, check=True).stdout.strip()
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", "3.12", python.parents[1]], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "-c", ROOT / "requirements.lock"]
    subprocess.run([*install, f"vla-harness[policies] @ file://{ROOT}"], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    absent = "import importlib.util as u; print([n for n in ('ray', 'libero', 'mujoco') if u.find_spec(n)])"
    done = subprocess.run([python, "-c", absent], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
    command = [str(python.parent / "harness")]
    probe = [*command, *f"probe --policy flow --nfe 1 {QUICK} --out edge".split()]
    done = subprocess.run(probe, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = harness.read(tmp_path / "edge")
    assert {"e2e", "vision", "denoise_step"} <= set(ledger.latency["component"])
    noise = decision_noise("ab" * 32, 0, make_policy(parse_policy("flow")).info.noise_shape)[np.newaxis]
    with served([*command, "serve", "-p", "flow", "--port", "0"], environment, tmp_path) as address:
        np.testing.assert_allclose(decide(address, noise), decide("flow", noise), atol=1e-4)
