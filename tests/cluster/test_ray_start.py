"""Why a Ray of one's own does not start, named before and after, without Ray."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from harness.cluster import ray_start
from harness.cluster.ray_session import open_session
from harness.cluster.ray_start import explain_join, explain_start, joining_token, private_token
from harness.errors import NodeError
from harness.surroundings import long_path_fault, ray_directory, shared_memory_fault

USAGE = namedtuple("usage", "total used free")


def test_the_temporary_directory_is_the_one_that_ray_follows():
    assert ray_directory({"RAY_TMPDIR": "/a", "TMPDIR": "/b"}) == Path("/a")
    assert ray_directory({"TMPDIR": "/b"}) == Path("/b")
    assert ray_directory({}) == Path("/tmp")


@pytest.mark.parametrize("length", [39, 40])
def test_a_run_refuses_the_paths_that_the_doctor_refuses(length, monkeypatch):
    """One bound, whatever this process's id is, and before Ray starts."""
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * (length - 1))
    fault = long_path_fault(os.environ)
    assert (fault is None) == (length == 39)
    if fault is not None:
        with pytest.raises(NodeError) as refused, open_session(None):
            pass
        assert str(refused.value) == f"{fault}."
        assert "set RAY_TMPDIR to a path of at most 39 characters" in fault


def test_little_shared_memory_is_named_as_such(monkeypatch, tmp_path):
    free = {"/dev/shm": 64 * 2**20}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, free.get(str(path), 10**12)))
    told = explain_start("plasma store died", {"TMPDIR": "/tmp"})
    assert told == f"{shared_memory_fault()}.", "as the doctor says it"
    assert "/dev/shm has 64 MiB free" in told
    assert "--shm-size" in told
    assert "memory is free" not in told


def test_a_full_temporary_directory_is_named_as_such(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, 10**7))
    assert "Only 10 MB are free in the temporary directory '/tmp'" in explain_start("died", {})


def test_a_slow_start_is_blamed_on_load_and_not_on_memory(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (21.7, 9.0, 9.0))
    monkeypatch.setattr(ray_start, "space_fault", lambda *_: None)
    told = explain_start("The current node timed out during startup", {})
    assert "load of this machine is 21.7" in told
    assert "RAY_raylet_start_wait_time_s" in told


def test_without_a_writable_home_a_private_cluster_gets_a_token_of_its_own(monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    assert len(private_token({})["RAY_AUTH_TOKEN"]) == 64
    assert private_token({"RAY_AUTH_MODE": "disabled"}) == {}


def test_a_token_that_is_there_is_used_for_joining_and_a_missing_one_named(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(ray_start, "_lets_in_without", lambda environ, address: address == "open:1")
    assert joining_token({}, "h:1") == {}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert joining_token({}, "h:1") == {"RAY_AUTH_MODE": "token"}
    assert joining_token({}, "open:1") == {}
    assert joining_token({"RAY_AUTH_MODE": "disabled"}, "h:1") == {}
    assert "~/.ray/auth_token" in explain_join("InvalidAuthToken", "h:1")
    assert explain_join("connection refused", "h:1") is None
