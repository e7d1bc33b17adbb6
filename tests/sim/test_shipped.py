"""A driver without LIBERO: names, tasks and counts come from data that ships."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import UsageError
from harness.sim.shipped import describe_shipped, shipped_suites
from harness.sim.world import LiberoWorld

WITHOUT_LIBERO = "import sys\nfor name in ('libero', 'mujoco', 'robosuite'):\n    sys.modules[name] = None\n"


def run_without_libero(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBERO + code], capture_output=True, text=True, timeout=300, check=False
    )


def test_what_ships_is_what_the_installed_package_has() -> None:
    world = LiberoWorld()
    assert shipped_suites() == world.suites()
    for suite in world.suites():
        assert describe_shipped(suite) == world.describe(suite)


def test_an_unknown_suite_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'libero_spatial'"):
        describe_shipped("libero_spatil")


def test_a_base_install_lists_suites_and_tasks() -> None:
    done = run_without_libero(
        "from harness.cli.app import invoke\n"
        "assert invoke(['list', 'suites']) == 0\n"
        "assert invoke(['list', 'tasks', 'libero_10']) == 0\n"
        "assert invoke(['validate', 'seed']) == 0\n"
    )
    assert done.returncode == 0, done.stderr
    assert "libero_pro:libero_spatial_swap" in done.stdout
    assert "turn on the stove and put the moka pot on it" in done.stdout


def test_a_base_install_plans_a_run_but_simulates_nothing() -> None:
    done = run_without_libero(
        "from harness.worlds.base import SimConfig\n"
        "from harness.worlds.registry import get_world\n"
        "world = get_world('libero')\n"
        "print(world.describe('libero_spatial').n_init_states[0])\n"
        "world.make('libero_spatial', 0, SimConfig())\n"
    )
    assert done.stdout.split() == ["50"], done.stderr
    assert "No LIBERO package is installed" in done.stderr
