"""A world that another package adds by the entry point `harness.worlds`: `examples/world_pointmass`, installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from harness.errors import SimulatorError, UsageError
from harness.worlds import registry
from harness.worlds.registry import BUILTIN, WorldRegistry

EXAMPLE = Path(__file__).parents[2] / "examples" / "world_pointmass"


@pytest.fixture
def site(tmp_path) -> Path:
    """A folder of packages in which the example is installed: its module, and what its pyproject declares."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = tmp_path / "site"
    metadata = folder / f"harness_pointmass-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (folder / "harness_pointmass").symlink_to(EXAMPLE / "harness_pointmass")
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n{name} = {target}\n"
        for group, names in project["entry-points"].items()
        for name, target in names.items()
    ]
    (metadata / "entry_points.txt").write_text("".join(lines))
    return folder


def harness_command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(EXAMPLE.parents[1])])}
    command = [sys.executable, "-c", "import sys; from harness.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=550, env=environment, check=False)


def test_an_installed_package_adds_a_world_that_runs(site, tmp_path):
    listed = harness_command(site, "list", "worlds", "--json")
    assert "pointmass" in [each["name"] for each in json.loads(listed.stdout)["worlds"]], listed.stderr
    options = ["--policy", "expert", "--policy", "noop", "--workers", "2", "--video", "all"]
    done = harness_command(site, "run", str(EXAMPLE / "suite.yaml"), *options, "--out", str(tmp_path / "ledger"))
    assert done.returncode == 0, done.stderr
    import harness

    rates = harness.read(tmp_path / "ledger").episodes.groupby("policy_id")["success"].mean().to_dict()
    assert rates == {"expert": 1.0, "noop": 0.0}
    assert len(list((tmp_path / "ledger" / "videos").rglob("*.mp4"))) == 2
    wrong = harness_command(
        site, "run", str(EXAMPLE / "suite.yaml"), "--policy", "scripted", "--out", str(tmp_path / "x")
    )
    assert wrong.returncode == 64
    assert "cannot do suite 'pointmass'" in " ".join(wrong.stderr.split())


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, registry.ENTRY_POINT_GROUP)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("libero", "json:loads", "the world 'libero' is taken"),
        ("mine", "json", "'module:attribute'"),
        ("mine", "no_such_package.x:World", "'no_such_package' is not installed"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_warned_of_and_left_out(name, value, fault):
    worlds = WorldRegistry(BUILTIN, [point(name, value)])
    with pytest.warns(UserWarning, match=fault):
        assert worlds.names() == tuple(sorted(BUILTIN))


def test_a_plugin_that_makes_no_world_is_told_by_name():
    worlds = WorldRegistry({}, [point("mine", "collections:OrderedDict"), point("broken", "json:nothing")])
    with pytest.raises(SimulatorError, match=r"'mine' is a OrderedDict, which lacks part of harness\.worlds\.World"):
        worlds.get("mine")
    with pytest.raises(SimulatorError, match="'broken' cannot be loaded from 'json:nothing'"):
        worlds.get("broken")
    with pytest.raises(UsageError, match="Unknown world 'mime'"):
        worlds.get("mime")


def test_a_suite_is_found_in_its_world():
    assert registry.WORLDS.of_suite("stub_slow").name == "stub"
    with pytest.raises(UsageError, match="Did you mean 'libero_spatial'"):
        registry.WORLDS.of_suite("libero_spatail")


def test_an_action_space_clips_spreads_and_holds():
    from harness.spec.action_space import LIBERO_ACTIONS, ActionSpace

    space = ActionSpace(
        ("x", "y", "grip"), "absolute", (0.0, 0.0, -1.0), ((0.0, 512.0), (0.0, 512.0), (-1.0, 1.0)), (2,)
    )
    assert space.clip(np.array([-1, 600, 2], np.float32)).tolist() == [0, 512, 1]
    assert space.spread(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 256, 1]
    assert space.hold(None, np.array([7, 8], np.float32)).tolist() == [7, 8, -1]
    shares = np.random.default_rng(0).uniform(-1, 1, (1000, 7))
    assert (LIBERO_ACTIONS["relative"].spread(shares) == shares.astype(np.float32)).all()
    with pytest.raises(ValueError, match="parts of lengths"):
        ActionSpace(("x",), "relative", (0.0, 0.0))
