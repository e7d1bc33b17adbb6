"""The package that a user copies: installed into a fresh environment, it is a policy and a suite by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from harness.errors import PolicyError
from harness.rollout.actions import check_answer
from harness.spec import parse_policy
from harness.spec.observation import Observation

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A copy of the package in an environment of its own, which borrows this one's packages, and its variables."""
    folder = tmp_path_factory.mktemp("own")
    package = folder / "own_policy"
    shutil.copytree(ROOT / "examples" / "own_policy", package)
    uv = subprocess.run([ROOT / "scripts" / "uv"], capture_output=True, text=True, check=True).stdout.strip()
    python = folder / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, python.parents[1]], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", str(package)]
    subprocess.run(install, check=True, timeout=300)
    paths = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib")))
    return package, {**os.environ, "PYTHONPATH": paths, "PYTHON": str(python)}


def harness(argv: list[str], installed: tuple[Path, dict[str, str]]) -> subprocess.CompletedProcess[str]:
    package, environment = installed
    return subprocess.run(
        [environment["PYTHON"], "-c", "from harness.cli import main; main()", *argv],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=package,
        env=environment,
    )


def test_the_policy_is_listed_and_runs_by_its_name_in_its_own_suite(
    installed: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    listed = json.loads(harness(["list", "policies", "--json"], installed).stdout)["policies"]
    assert "forward" in [entry["name"] for entry in listed]
    done = harness(["run", "forward", "--out", str(tmp_path / "out"), "--workers", "1", "--json"], installed)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["done"], found["errors"]) == (4, [])


def test_its_options_and_its_noise_reach_its_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "own_policy")
    from forward_policy import make

    policy, seen = make(parse_policy("forward?speed=0.5&sway=0.1")), [Observation("go", np.zeros(8, np.float32))] * 2
    noise = np.ones((2, 10, 1), np.float32)
    actions = check_answer(policy.info, policy.act(seen, noise), 2)
    np.testing.assert_allclose(actions[1, 3], [0.5, 0.1, 0, 0, 0, 0, -1], atol=1e-6)
    with pytest.raises(PolicyError, match="got noise of shape None"):
        policy.act(seen, None)
